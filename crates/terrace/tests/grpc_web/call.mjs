// The official client of gRPC-Web as a browser runs it, but for XMLHttpRequest, which node has not.
//
//   node call.mjs FOLDER-OF-PACKAGES http://ADDRESS

import { createRequire } from "node:module";
import { strict as assert } from "node:assert";

const [modules, base] = process.argv.slice(2);
const require = createRequire(modules + "/");
globalThis.XMLHttpRequest = require("xhr2");
const { GrpcWebClientBase, MethodDescriptor, MethodType } = require("grpc-web");

const SERVICE = "/terrace.test.Greeter/";
const text = (bytes) => new TextDecoder().decode(bytes);
const method = (name, type) =>
  new MethodDescriptor(SERVICE + name, type, Object, Object, (words) => new TextEncoder().encode(words.text), text);

const call = (client, name, words) =>
  new Promise((resolve) => {
    const done = method(name, MethodType.UNARY);
    const stream = client.rpcCall(base + SERVICE + name, { text: words }, {}, done, (error, answer) =>
      resolve({ error, answer, status: stream?.lastStatus }));
  });

const down = (client, count) =>
  new Promise((resolve, reject) => {
    const stream = client.serverStreaming(base + SERVICE + "Down", { text: String(count) }, {}, method("Down", MethodType.SERVER_STREAMING));
    const messages = [];
    stream.on("data", (message) => messages.push(message));
    stream.on("error", reject);
    stream.on("status", (status) => assert.equal(status.code, 0));
    stream.on("end", () => resolve(messages));
  });

for (const format of ["text", "binary"]) {
  const client = new GrpcWebClientBase({ format });
  for (const size of [0, 1, 2, 100_000]) {
    const { error, answer } = await call(client, "Unary", "x".repeat(size));
    assert.equal(error, null, `${format} ${size}: ${error?.message}`);
    assert.equal(answer, "hello " + "x".repeat(size));
  }
  const failed = await call(client, "Fail", "7");
  assert.equal(failed.error.code, 5, failed.error.message);
  assert.match(failed.error.message, /^no such order: 7 /);
  const unknown = await call(client, "Nothing", "");
  assert.equal(unknown.error.code, 12, unknown.error.message);
}
// Only as text can a browser see a stream while it comes.
assert.deepEqual(await down(new GrpcWebClientBase({ format: "text" }), 200), Array.from({ length: 200 }, (_, number) => String(number)));
const late = await call(new GrpcWebClientBase({ format: "text" }), "Hang", "");
assert.equal(late.error.code, 4, late.error.message);
console.log("all calls in order");
