// The service in front of the other one, for the map to have depth: passes each request on, with its trace, and says so in
// a line of JSON.

import { createServer } from "node:http";

const behind = process.env.WEB_URL;

createServer(async (asked, answer) => {
  if (asked.url === "/health") return answer.end("well\n");
  const traceparent = asked.headers.traceparent ?? "";
  let status = 502;
  try {
    const got = await fetch(`${behind}${asked.url}`, { headers: { traceparent } });
    await got.arrayBuffer();
    status = got.status;
  } catch {
    // It is 502 then.
  }
  const level = status >= 500 ? "error" : "info";
  console.log(JSON.stringify({ level, message: `asked web for ${asked.url}`, trace_id: traceparent.split("-")[1], status }));
  answer.writeHead(status, { "content-type": "text/plain" }).end("passed on\n");
}).listen(Number(process.env.PORT), "127.0.0.1");
