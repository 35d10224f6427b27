// Programs that were written for Azure get tokens of a user-assigned identity through unmodified @azure/identity, told
// where by environment variables alone. Each runs in a process of its own, since the library finds its source once.
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { program, start } from "../harness.js";

let service, identity, environment;

before(async () => {
  service = await start();
  const id = `/subscriptions/${service.subscriptionId}/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/sender`;
  identity = await service.admin("PUT", `${id}?api-version=2023-01-31`, { location: "local" });
  ({ environment } = await service.admin("POST", `${id}/tabardEnvironment`, {}));
  const app = await service.admin("POST", "/v1.0/applications", { displayName: "orders", identifierUris: ["api://orders"] });
  await service.admin("POST", "/v1.0/servicePrincipals", { appId: app.appId });
});

after(() => service?.stop());

/** run is program in the identity's environment, trusting the local authority. */
const run = (source, env) => program(source, { NODE_EXTRA_CA_CERTS: service.caFile, ISSUER: service.issuer, ...environment, ...env });

const verify = `
import { createRemoteJWKSet, jwtVerify } from "jose";
const document = await (await fetch(process.env.ISSUER + ".well-known/openid-configuration")).json();
const keys = createRemoteJWKSet(new URL(document.jwks_uri));
async function claims(token, audience) {
  return (await jwtVerify(token, keys, { issuer: document.issuer, audience, algorithms: ["RS256"] })).payload;
}
`;

for (const [name, credential] of Object.entries({
  "ManagedIdentityCredential without an id": "new ManagedIdentityCredential()",
  "ManagedIdentityCredential by client id": "new ManagedIdentityCredential({ clientId: process.env.AZURE_CLIENT_ID })",
  "ManagedIdentityCredential by resource id": "new ManagedIdentityCredential({ resourceId: process.env.RESOURCE_ID })",
  DefaultAzureCredential: "new DefaultAzureCredential()",
})) {
  test(`${name} gets a token that jose verifies, and remembers it`, async () => {
    const got = await run(`
      import { DefaultAzureCredential, ManagedIdentityCredential } from "@azure/identity";
      ${verify}
      const credential = ${credential};
      const first = await credential.getToken("api://orders/.default");
      const second = await credential.getToken("api://orders/.default");
      console.log(JSON.stringify({ claims: await claims(first.token, "api://orders"), same: first.token === second.token, life: first.expiresOnTimestamp - Date.now() }));
    `, { RESOURCE_ID: identity.id });
    assert.equal(got.claims.oid, identity.properties.principalId);
    assert.equal(got.claims.appid, identity.properties.clientId);
    assert.equal(got.claims.xms_mirid.toLowerCase(), identity.id.toLowerCase());
    assert.ok(got.same, "the second call asked again");
    assert.ok(got.life > 23 * 3600_000 && got.life <= 24 * 3600_000, `it lives ${got.life} ms`);
  });
}

test("a header that was rotated away, another identity and an unknown resource are refused in words", async () => {
  const ask = (env, resource = "api://orders") => run(`
    import { ManagedIdentityCredential } from "@azure/identity";
    try {
      await new ManagedIdentityCredential(process.env.ID ? { clientId: process.env.ID } : {}).getToken("${resource}/.default");
      console.log(JSON.stringify({ message: "a token" }));
    } catch (e) {
      console.log(JSON.stringify({ message: e.message }));
    }
  `, env);
  assert.match((await ask({ IDENTITY_HEADER: "wrong" })).message, /X-IDENTITY-HEADER is missing or wrong/);
  assert.match((await ask({ ID: "aaaa0000-0000-4000-8000-00000000000a" })).message, /Identity not found/);
  assert.match((await ask({}, "api://nowhere")).message, /AADSTS500011/);
});
