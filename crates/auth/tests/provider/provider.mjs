// A certified OpenID provider (npm's oidc-provider) on a free port of loopback, for tests. It lives as long as its
// standard input is open, and says where it is on its first line of output.
//
//   node provider.mjs NODE_MODULES '{"redirect_uris": […], "post_logout_redirect_uris": […], "access_s": 60}'
// Further settings: "refresh": false, "methods" (how clients may say who they are), "port", "down" (whether it is from
// the start).
//
// Everybody logs in with any password. Beside the provider are some doors for tests: GET /test/counts tells how often tokens were
// asked for by which grant, POST /test/forget makes it forget every grant, POST /test/down and /test/up have it answer 503 or not.
import http from 'node:http';
import { once } from 'node:events';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [modules, settings] = process.argv.slice(2);
const given = JSON.parse(settings);
const { default: Provider } = await import(pathToFileURL(join(modules, 'oidc-provider/lib/index.js')));
console.warn = console.info = () => {};

const METHODS = ['client_secret_basic', 'client_secret_post', 'none'];
const counts = {};
let isDown = given.down === true;
let isForgetful = false;

const server = http.createServer();
server.listen(given.port ?? 0, '127.0.0.1');
await once(server, 'listening');
const issuer = `http://127.0.0.1:${server.address().port}`;

const client = {
  client_id: 'shop',
  grant_types: ['authorization_code', 'refresh_token'],
  redirect_uris: given.redirect_uris,
  post_logout_redirect_uris: given.post_logout_redirect_uris ?? [],
  response_types: ['code'],
};
const provider = new Provider(issuer, {
  clients: [
    { ...client, client_secret: 'a secret with: + and %', token_endpoint_auth_method: 'client_secret_basic' },
    { ...client, client_id: 'form', client_secret: 'other', token_endpoint_auth_method: 'client_secret_post' },
    { ...client, client_id: 'public', token_endpoint_auth_method: 'none' },
    { client_id: 'guard', client_secret: 'guarded', redirect_uris: [], response_types: [], grant_types: ['client_credentials'] },
  ].filter(({ token_endpoint_auth_method: method }) => (given.methods ?? METHODS).includes(method ?? METHODS[0])),
  clientAuthMethods: given.methods ?? METHODS,
  cookies: { keys: ['only for tests'] },
  claims: { openid: ['sub'], profile: ['name', 'tier', 'roles'] },
  scopes: ['openid', 'offline_access', 'orders'],
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: (ctx, asking) => given.refresh !== false && asking.grantTypeAllowed('refresh_token'),
  ttl: { AccessToken: given.access_s ?? 60, IdToken: given.access_s ?? 60, RefreshToken: 3600, Session: 3600, Grant: 3600, Interaction: 600 },
  features: {
    devInteractions: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: true, allowedPolicy: () => true },
    clientCredentials: { enabled: true },
  },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({
      sub: id,
      name: `${id} of the tests`,
      tier: 'gold',
      roles: id === 'admin' ? ['customer', 'admin'] : ['customer'],
      // Some people are in many groups.
      ...(id === 'large' ? { name: 'x'.repeat(6000) } : {}),
    }),
  }),
});
const serve = provider.callback();

server.on('request', (request, response) => {
  const answer = (status, body) => response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));
  switch (request.url) {
    case '/test/counts': return answer(200, counts);
    case '/test/forget': isForgetful = true; return answer(200, {});
    case '/test/down': isDown = true; return answer(200, {});
    case '/test/up': isDown = false; return answer(200, {});
  }
  if (isDown) return answer(503, { error: 'down' });
  if (request.url === '/token') {
    const chunks = [];
    request.on('data', (chunk) => chunks.push(chunk));
    request.on('end', () => {
      const body = Buffer.concat(chunks);
      const grant = new URLSearchParams(body.toString()).get('grant_type');
      counts[grant] = (counts[grant] ?? 0) + 1;
      if (isForgetful && grant === 'refresh_token') return answer(400, { error: 'invalid_grant', error_description: 'forgotten' });
      request.body = Object.fromEntries(new URLSearchParams(body.toString()));
      return serve(request, response);
    });
    return undefined;
  }
  const asked = { '/token/revocation': 'revocation', '/token/introspection': 'introspection' }[request.url];
  if (asked) counts[asked] = (counts[asked] ?? 0) + 1;
  return serve(request, response);
});

console.log(issuer);
process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
