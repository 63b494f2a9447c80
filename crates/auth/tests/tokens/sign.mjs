// Signs tokens with npm's jose, one for each algorithm, and prints them with the keys that they were signed with.
// Arguments: the folder of jose, the issuer, the audience, and when the tokens expire, in seconds since 1970.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, issuer, audience, expires] = process.argv.slice(2);
const jose = await import(pathToFileURL(createRequire(`${modules}/`).resolve("jose")));
const secret = Uint8Array.from({ length: 64 }, (_, at) => at);
const algorithms = "HS256 HS384 HS512 RS256 RS384 RS512 PS256 PS384 PS512 ES256 ES384 ES512 EdDSA Ed25519".split(" ");
const [keys, tokens] = [[], []];

for (const alg of algorithms) {
  let key = secret;
  if (!alg.startsWith("HS")) {
    const pair = await jose.generateKeyPair(alg, { extractable: true });
    keys.push({ ...(await jose.exportJWK(pair.publicKey)), kid: alg, alg, use: "sig" });
    key = pair.privateKey;
  }
  const token = await new jose.SignJWT({ roles: ["customer"] })
    .setProtectedHeader({ alg, kid: alg, typ: "JWT" })
    .setIssuer(issuer)
    .setAudience(audience)
    .setSubject("jose")
    .setIssuedAt(expires - 600)
    .setExpirationTime(Number(expires))
    .sign(key);
  tokens.push(["jose", alg, token]);
}
console.log(JSON.stringify({ keys, secret: jose.base64url.encode(secret), tokens }));
