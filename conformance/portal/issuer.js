// A certified OpenID provider over TLS, whose tokens have the claims that Microsoft Entra ID's have.
import { execFileSync } from "node:child_process";
import { generateKeyPairSync, randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Provider from "oidc-provider";

const resource = "https://management.azure.com";

/** startIssuer is an issuer with one client, whose redirect URI it is told by admit once that is known. */
export async function startIssuer(clientId) {
  const dir = mkdtempSync(join(tmpdir(), "tabard-issuer-"));
  const [keyFile, caFile] = [join(dir, "key.pem"), join(dir, "cert.pem")];
  execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", keyFile, "-out", caFile, "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"], { stdio: "pipe" });
  let serve = (_req, res) => res.writeHead(503).end();
  const server = createServer({ key: readFileSync(keyFile), cert: readFileSync(caFile) }, (req, res) => serve(req, res));
  server.listen(0, "localhost");
  await once(server, "listening");
  const [tenantId, objectId] = [randomUUID(), randomUUID()];
  const path = `/${tenantId}/v2.0`;
  const url = `https://localhost:${server.address().port}${path}`;
  const signingKey = generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey.export({ format: "jwk" });
  return {
    url, caFile, tenantId, objectId, resource,
    admit(redirectUri) {
      const provider = new Provider(url, {
        clients: [{ client_id: clientId, redirect_uris: [redirectUri], grant_types: ["authorization_code"], response_types: ["code"], token_endpoint_auth_method: "none" }],
        clientBasedCORS: () => true,
        cookies: { keys: [randomUUID()] },
        jwks: { keys: [{ ...signingKey, kid: "k", alg: "RS256", use: "sig" }] },
        findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
        features: {
          devInteractions: { enabled: true },
          resourceIndicators: {
            enabled: true,
            getResourceServerInfo: () => ({ scope: "user_impersonation", audience: resource, accessTokenFormat: "jwt", jwt: { sign: { alg: "RS256" } } }),
            useGrantedResource: () => true,
          },
        },
        formats: {
          customizers: {
            jwt(_ctx, _token, { payload }) {
              Object.assign(payload, { oid: objectId, tid: tenantId, azp: clientId, scp: payload.scope, nbf: payload.iat, ver: "2.0", idtyp: "user" });
            },
          },
        },
      });
      const below = provider.callback();
      serve = (req, res) => { // the provider learns from originalUrl that it is mounted at a path
        req.originalUrl = req.url;
        if (req.url.startsWith(path)) req.url = req.url.slice(path.length);
        return below(req, res);
      };
    },
    async stop() {
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
      rmSync(dir, { recursive: true, force: true });
    },
  };
}
