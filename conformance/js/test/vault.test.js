// @azure/keyvault-secrets against an embedded vault, with a managed identity and the check of the challenge's resource
// left on: checklist 2 and 28 of the key-vault specification. Programs run in processes of their own, which trust the
// local authority by NODE_EXTRA_CA_CERTS.
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { join } from "node:path";
import { start } from "../harness.js";

let service, environment, principal, appPrincipal, vault, application;
const vaults = () => `/subscriptions/${service.subscriptionId}/resourceGroups/default/providers/Microsoft.KeyVault/vaults`;
const policies = (...secrets) => [{ tenantId: service.tenantId, objectId: principal, permissions: { secrets } }];

before(async () => {
  service = await start();
  const id = `/subscriptions/${service.subscriptionId}/resourceGroups/default/providers/Microsoft.ManagedIdentity/userAssignedIdentities/keeper`;
  principal = (await service.admin("PUT", `${id}?api-version=2023-01-31`, { location: "local" })).properties.principalId;
  ({ environment } = await service.admin("POST", `${id}/tabardEnvironment`, {}));
  const app = await service.admin("POST", "/v1.0/applications", { displayName: "keeper" });
  appPrincipal = (await service.admin("POST", "/v1.0/servicePrincipals", { appId: app.appId })).id;
  const { secretText } = await service.admin("POST", `/v1.0/applications/${app.id}/addPassword`, {});
  application = { TENANT: service.tenantId, CLIENT: app.appId, SECRET: secretText, AUTHORITY: service.httpsEndpoint };
  vault = await service.admin("PUT", `${vaults()}/hooks?api-version=2024-11-01`, {
    location: "local",
    properties: { tenantId: service.tenantId, sku: { family: "A", name: "standard" }, accessPolicies: policies("all", "purge") },
  });
});

after(() => service?.stop());

/** The credentials that programs use, as source text. Discovery of instances asks Microsoft about hosts that it does not know. */
const credentials = {
  managed: "new ManagedIdentityCredential()",
  secret: "new ClientSecretCredential(process.env.TENANT, process.env.CLIENT, process.env.SECRET, { authorityHost: process.env.AUTHORITY, disableInstanceDiscovery: true })",
};

/** program runs the body of an async function with a client for the vault, and returns what it returns. */
async function program(body, { url = vault.properties.vaultUri, options = "{}", credential = credentials.managed } = {}) {
  const child = spawn(process.execPath, ["--import", join(import.meta.dirname, "../resolve-localhost.js"), "--input-type=module", "-"], {
    cwd: import.meta.dirname,
    env: { PATH: process.env.PATH, NODE_EXTRA_CA_CERTS: service.caFile, VAULT: url, ...environment, ...application },
    stdio: ["pipe", "pipe", "inherit"],
  });
  child.stdin.end(`
    import { ClientSecretCredential, ManagedIdentityCredential } from "@azure/identity";
    import { SecretClient } from "@azure/keyvault-secrets";
    const client = new SecretClient(process.env.VAULT, ${credential}, ${options});
    const refusal = (p) => p.then(() => "none", (e) => ({ status: e.statusCode, code: e.code, message: e.message }));
    console.log(JSON.stringify(await (async () => { ${body} })()));
  `);
  let output = "";
  child.stdout.on("data", (b) => (output += b));
  const code = await new Promise((r) => child.on("close", r));
  assert.equal(code, 0, output);
  return JSON.parse(output);
}

test("secrets are set, read, listed and changed", async () => {
  const got = await program(`
    const set = await client.setSecret("hookkey", "s3cr3t", { contentType: "text/plain", tags: { env: "dev" }, expiresOn: new Date(1821536000000) });
    await client.setSecret("hookkey", "second");
    const newest = await client.getSecret("hookkey");
    const first = await client.getSecret("hookkey", { version: set.properties.version });
    await client.updateSecretProperties("hookkey", newest.properties.version, { enabled: false });
    const disabled = await refusal(client.getSecret("hookkey"));
    for (let i = 0; i < 30; i++) await client.setSecret("s" + i, "x");
    const names = [], versions = [];
    for await (const p of client.listPropertiesOfSecrets()) names.push(p.name);
    for await (const p of client.listPropertiesOfSecretVersions("hookkey")) versions.push(p.version);
    return { first: first.value, tags: first.properties.tags, expires: first.properties.expiresOn, level: first.properties.recoveryLevel,
      newest: newest.value, disabled, names: names.length, versions: versions.length, missing: await refusal(client.getSecret("missing")) };
  `);
  assert.equal(got.first, "s3cr3t");
  assert.equal(got.newest, "second");
  assert.deepEqual(got.tags, { env: "dev" });
  assert.equal(got.expires, new Date(1821536000000).toISOString());
  assert.equal(got.level, "Recoverable+Purgeable");
  assert.equal(got.disabled.status, 403);
  assert.equal(got.names, 31);
  assert.equal(got.versions, 2);
  assert.deepEqual([got.missing.status, got.missing.code], [404, "SecretNotFound"]);
});

test("deletion and recovery are polled to their end; purge, backup and restore", async () => {
  const got = await program(`
    await client.setSecret("mortal", "kept");
    const backup = await client.backupSecret("mortal");
    const deleted = await (await client.beginDeleteSecret("mortal")).pollUntilDone();
    const recovered = await (await client.beginRecoverDeletedSecret("mortal")).pollUntilDone();
    const value = (await client.getSecret("mortal")).value;
    await (await client.beginDeleteSecret("mortal")).pollUntilDone();
    const taken = await refusal(client.setSecret("mortal", "x"));
    const listed = [];
    for await (const d of client.listDeletedSecrets()) listed.push(d.name);
    await client.purgeDeletedSecret("mortal");
    await client.restoreSecretBackup(backup);
    return { deleted: deleted.name, recovery: deleted.recoveryId, recovered: recovered.name, value, taken, listed, restored: (await client.getSecret("mortal")).value };
  `);
  assert.equal(got.deleted, "mortal");
  assert.equal(got.recovery, `${vault.properties.vaultUri}deletedsecrets/mortal`);
  assert.equal(got.recovered, "mortal");
  assert.equal(got.value, "kept");
  assert.equal(got.taken.status, 409);
  assert.deepEqual(got.listed, ["mortal"]);
  assert.equal(got.restored, "kept");
});

for (const [name, credential] of Object.entries(credentials)) {
  test(`every public method of the client works with the credential: ${name}`, async () => {
    const own = await service.admin("PUT", `${vaults()}/all-${name}?api-version=2024-11-01`, {
      location: "local",
      properties: { tenantId: service.tenantId, sku: { family: "A", name: "standard" },
        accessPolicies: [{ tenantId: service.tenantId, objectId: name === "managed" ? principal : appPrincipal, permissions: { secrets: ["all", "purge"] } }] },
    });
    const got = await program(`
      const called = new Set();
      const c = new Proxy(client, { get: (t, k) => typeof t[k] === "function" ? (called.add(k), t[k].bind(t)) : t[k] });
      const all = async (list) => { const names = []; for await (const p of list) names.push(p.name); return names; };
      const pages = async (list) => { let n = 0; for await (const _ of list.byPage({ maxPageSize: 2 })) n++; return n; };
      const first = await c.setSecret("a", "one");
      await c.setSecret("a", "two");
      await c.setSecret("b", "x"); await c.setSecret("c", "x");
      const updated = await c.updateSecretProperties("a", first.properties.version, { tags: { k: "v" }, contentType: "t", notBefore: new Date(1000) });
      const value = (await c.getSecret("a", { version: first.properties.version })).value;
      const names = await all(c.listPropertiesOfSecrets());
      const versions = await all(c.listPropertiesOfSecretVersions("a"));
      const listPages = await pages(c.listPropertiesOfSecrets());
      const backup = await c.backupSecret("a");
      const poller = await c.beginDeleteSecret("a", { intervalInMs: 10 });
      const deleted = await poller.pollUntilDone();
      const done = poller.isDone();
      const seen = await c.getDeletedSecret("a");
      const listed = await all(c.listDeletedSecrets());
      const back = await (await c.beginRecoverDeletedSecret("a", { intervalInMs: 10 })).pollUntilDone();
      await (await c.beginDeleteSecret("a", { intervalInMs: 10 })).pollUntilDone();
      await c.purgeDeletedSecret("a");
      const restored = await c.restoreSecretBackup(backup);
      const newest = (await c.getSecret("a")).value;
      const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(client)).filter((m) => m !== "constructor" && typeof client[m] === "function");
      return { tags: updated.tags, notBefore: updated.notBefore, value, names, versions: versions.length, listPages, done, deleted: deleted.deletedOn, purge: deleted.scheduledPurgeDate,
        recovery: seen.recoveryId, listed, back: back.name, restored: restored.name, newest, missed: methods.filter((m) => !called.has(m)) };
    `, { url: own.properties.vaultUri, credential });
    assert.deepEqual(got.tags, { k: "v" });
    assert.equal(got.notBefore, new Date(1000).toISOString());
    assert.equal(got.value, "one");
    assert.deepEqual(got.names, ["a", "b", "c"]);
    assert.equal(got.versions, 2);
    assert.equal(got.listPages, 2);
    assert.equal(got.done, true);
    assert.ok(got.deleted && got.purge);
    assert.equal(got.recovery, `${own.properties.vaultUri}deletedsecrets/a`);
    assert.deepEqual(got.listed, ["a"]);
    assert.equal(got.back, "a");
    assert.equal(got.restored, "a");
    assert.equal(got.newest, "two");
    assert.deepEqual(got.missed.filter((m) => !m.startsWith("_")), [], "methods that were not tried");
  });
}

test("a bare host needs the option that the documentation names", async () => {
  await service.admin("PATCH", `${vaults()}/default?api-version=2024-11-01`, { properties: { accessPolicies: policies("get", "set") } });
  const url = service.adminHttpsUrl;
  const without = await program(`return refusal(client.setSecret("n", "x"));`, { url });
  assert.match(without.message, /disableChallengeResourceVerification/);
  const value = await program(`await client.setSecret("n", "x"); return (await client.getSecret("n")).value;`, { url, options: "{ disableChallengeResourceVerification: true }" });
  assert.equal(value, "x");
});

test("an identity without a policy is refused by name", async () => {
  await service.admin("PUT", `${vaults()}/hooks/accessPolicies/replace?api-version=2024-11-01`, { properties: { accessPolicies: policies("list") } });
  const refused = await program(`return refusal(client.getSecret("hookkey"));`);
  assert.equal(refused.status, 403);
  assert.ok(refused.message.includes(`oid=${principal}`), refused.message);
});
