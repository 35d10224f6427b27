// Every credential of @azure/identity against the token endpoint, and WebPubSubServiceClient with them, unmodified, over
// TLS with the local authority. Each program runs in a process of its own, as the library reads its environment once.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { certificate, program, start } from "../harness.js";

const owner = "Web PubSub Service Owner", reader = "Web PubSub Service Reader";

let service, cluster, dir, identity, environment;
const apps = {};

/** application registers a client with a secret and a role on the default instance, if one is named. */
async function application(name, role) {
  const app = await service.json("app", "create", name);
  const { secretText } = await service.json("app", "secret", "create", name);
  const principal = await service.admin("GET", `/v1.0/servicePrincipals(appId='${app.appId}')`);
  if (role) await service.cli("role", "assign", "--principal", principal.id, "--role", role, "--instance", "default");
  return (apps[name] = { ...app, secret: secretText, principalId: principal.id });
}

before(async () => {
  dir = mkdtempSync(join(tmpdir(), "tabard-entra-"));
  // A second service stands for the cluster whose tokens workloads hold.
  cluster = await start();
  service = await start("--handler-ca", cluster.caFile, "--token-lifetime", "5m", "--client-token-lifetime", "5m");
  await service.cli("app", "create", "orders", "--identifier-uri", "api://orders");
  await service.cli("app", "create", "orders2", "--identifier-uri", "api://orders2", "--token-version", "2");
  await application("owner", owner);
  await application("reader", reader);
  await application("nobody");
  identity = await service.json("identity", "create", "sender");
  await service.cli("role", "assign", "--principal", identity.principalId, "--role", owner, "--instance", "default");
  environment = Object.fromEntries((await service.cli("identity", "env", "sender")).trim().split("\n").map((line) => line.split(/=(.*)/s, 2)));
});

after(async () => {
  rmSync(dir, { recursive: true, force: true });
  await cluster?.stop();
  await service?.stop();
});

const run = (source, env = {}) => program(prelude + source, {
  NODE_EXTRA_CA_CERTS: service.caFile, ISSUER: service.issuer, ISSUER_V2: service.issuerV2, AUTHORITY: new URL(service.issuer).origin,
  TENANT: service.tenantId, ENDPOINT: service.httpsEndpoint, ...env,
});

const prelude = `
import * as identity from "@azure/identity";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { createRemoteJWKSet, decodeJwt, jwtVerify } from "jose";
const env = process.env;
const options = { authorityHost: env.AUTHORITY, disableInstanceDiscovery: true };
const print = (v) => console.log(JSON.stringify(v));
async function claims(token, audience) {
  const issuer = decodeJwt(token).ver === "2.0" ? env.ISSUER_V2 : env.ISSUER;
  const document = await (await fetch(issuer.replace(/\\/$/, "") + "/.well-known/openid-configuration")).json();
  return (await jwtVerify(token, createRemoteJWKSet(new URL(document.jwks_uri)), { issuer: document.issuer, audience, algorithms: ["RS256"] })).payload;
}
/** report says what a credential's token is, for both versions, and that one at the end of its life is replaced. */
async function report(credential, fresh = () => credential) {
  const one = await credential.getToken("api://orders/.default");
  const again = await fresh().getToken("api://orders/.default");
  const two = await credential.getToken("api://orders2/.default");
  const v2 = await claims(two.token, env.AUDIENCE2);
  print({ v1: await claims(one.token, "api://orders"), v2, refreshed: one.token !== again.token, life: one.expiresOnTimestamp - Date.now() });
}
/** outcome is the status of a call that may be refused, or what it returned. */
async function outcome(call) {
  try {
    return { value: (await call()) ?? null };
  } catch (e) {
    return { status: e.statusCode, code: e.code, message: e.message };
  }
}
`;

function check(got, client, principal) {
  assert.equal(got.v1.appid, client);
  assert.equal(got.v1.oid, principal);
  assert.equal(got.v2.azp, client);
  assert.equal(got.v2.ver, "2.0");
  assert.ok(got.refreshed, "a token at the end of its life was handed out again");
  assert.ok(got.life > 0 && got.life <= 300_000, `it lives ${got.life} ms`);
}

const audience2 = async () => ({ AUDIENCE2: (await service.json("app", "show", "orders2")).appId });

test("ClientSecretCredential gets tokens of both versions that jose verifies, and new ones when they end", async () => {
  const { appId, principalId, secret } = apps.owner;
  const got = await run("await report(new identity.ClientSecretCredential(env.TENANT, env.ID, env.SECRET, options));", { ID: appId, SECRET: secret, ...(await audience2()) });
  check(got, appId, principalId);
  assert.equal(got.v1.appidacr, "1");
});

test("EnvironmentCredential and DefaultAzureCredential find the secret by environment alone", async () => {
  const { appId, principalId, secret } = apps.owner;
  const env = { AZURE_TENANT_ID: service.tenantId, AZURE_CLIENT_ID: appId, AZURE_CLIENT_SECRET: secret, AZURE_AUTHORITY_HOST: new URL(service.issuer).origin, ...(await audience2()) };
  for (const name of ["EnvironmentCredential", "DefaultAzureCredential"]) {
    check(await run(`await report(new identity.${name}({ disableInstanceDiscovery: true }));`, env), appId, principalId);
  }
});

test("ClientCertificateCredential signs with a registered certificate", async () => {
  const pem = certificate("worker"), file = join(dir, "worker.pem");
  writeFileSync(file, pem.certificate + pem.key);
  await service.cli("app", "certificate", "add", "owner", file);
  const { appId, principalId } = apps.owner;
  // The library presents one assertion for ten minutes, which the service takes once per resource; another credential
  // signs another.
  const got = await run(`
    const fresh = () => new identity.ClientCertificateCredential(env.TENANT, env.ID, { certificatePath: env.FILE }, options);
    await report(fresh(), fresh);
  `, { ID: appId, FILE: file, ...(await audience2()) });
  check(got, appId, principalId);
  assert.equal(got.v1.appidacr, "2");
  const stranger = certificate("worker"), other = join(dir, "stranger.pem");
  writeFileSync(other, stranger.certificate + stranger.key);
  const refused = await run("print(await outcome(() => new identity.ClientCertificateCredential(env.TENANT, env.ID, { certificatePath: env.FILE }, options).getToken('api://orders/.default')));", { ID: appId, FILE: other });
  assert.match(refused.message, /AADSTS700027/);
});

test("WorkloadIdentityCredential exchanges another issuer's token, for an application and for an identity", async () => {
  // The cluster's own token for the exchange, as a projected volume would hold it, line break and all.
  const pod = await cluster.json("identity", "create", "pod");
  const env = Object.fromEntries((await cluster.cli("identity", "env", "pod")).trim().split("\n").map((line) => line.split(/=(.*)/s, 2)));
  const answer = await fetch(`${env.IDENTITY_ENDPOINT}?api-version=2019-08-01&resource=api://AzureADTokenExchange`, { headers: { "x-identity-header": env.IDENTITY_HEADER } });
  const file = join(dir, "token");
  writeFileSync(file, `${(await answer.json()).access_token}\n`);
  // In a v2 token the exchange is called by its id.
  const trust = ["pod", "--issuer", cluster.issuerV2, "--subject", pod.principalId, "--audience", "fb60f99c-7a34-4190-8149-302f77469936"];
  await service.cli("app", "federated", "create", "owner", ...trust);
  await service.cli("identity", "federated", "create", "sender", ...trust);
  const source = "await report(new identity.WorkloadIdentityCredential({ disableInstanceDiscovery: true }));";
  const workload = Object.fromEntries((await service.cli("identity", "env", "sender", "--workload", file)).trim().split("\n").map((line) => line.split(/=(.*)/s, 2)));
  check(await run(source, { ...workload, ...(await audience2()) }), identity.clientId, identity.principalId);
  check(await run(source, { ...workload, AZURE_CLIENT_ID: apps.owner.appId, ...(await audience2()) }), apps.owner.appId, apps.owner.principalId);
  const { message } = await run("print(await outcome(() => new identity.WorkloadIdentityCredential({ disableInstanceDiscovery: true }).getToken('api://orders/.default')));", { ...workload, AZURE_CLIENT_ID: apps.reader.appId });
  assert.match(message, /AADSTS70025/);
});

test("an unknown scope, a wrong secret and an unknown client are refused in Entra's words", async () => {
  const { appId, secret } = apps.owner;
  const ask = async (id, secret, scope = "api://orders/.default") => (await run(`print(await outcome(() => new identity.ClientSecretCredential(env.TENANT, env.ID, env.SECRET, options).getToken("${scope}")));`, { ID: id, SECRET: secret })).message;
  assert.match(await ask(appId, "wrong"), /AADSTS7000215/);
  assert.match(await ask("aaaa0000-0000-4000-8000-00000000000a", secret), /AADSTS700016/);
  assert.match(await ask(appId, secret, "api://nowhere/.default"), /AADSTS500011/);
  assert.match(await ask(appId, secret, "api://orders/Some.Role"), /AADSTS(1002012|70011)/);
});

/** calls is what a caller of the data plane tries: to read, to send, and to make a client's token. */
const calls = `
const hub = new WebPubSubServiceClient(env.ENDPOINT, credential, "chat");
print({
  read: await outcome(() => hub.groupExists("none")),
  send: await outcome(() => hub.sendToAll("hello", { contentType: "text/plain" })),
  manage: await outcome(() => hub.removeUserFromAllGroups("ann")),
  token: await outcome(async () => {
    const { url } = await hub.getClientAccessToken({ userId: "ann" });
    return url;
  }),
});
`;
const secretCredential = "const credential = new identity.ClientSecretCredential(env.TENANT, env.ID, env.SECRET, options);";

test("WebPubSubServiceClient works for an owner, with a secret and as a managed identity", async () => {
  for (const got of [
    await run(secretCredential + calls, { ID: apps.owner.appId, SECRET: apps.owner.secret }),
    await run("const credential = new identity.ManagedIdentityCredential();" + calls, environment),
    await run("const credential = new identity.DefaultAzureCredential();" + calls, environment),
  ]) {
    assert.deepEqual(got.read, { value: false });
    assert.equal(got.send.message, undefined);
    assert.equal(got.manage.message, undefined);
    assert.match(got.token.value, /^wss:\/\/.*\/client\/hubs\/chat\?access_token=/);
  }
});

test("the token that an owner generates lets a client in", async () => {
  const { token } = await run(secretCredential + calls, { ID: apps.owner.appId, SECRET: apps.owner.secret });
  const greeting = await program(`
    import WebSocket from "ws";
    const socket = new WebSocket(process.env.URL, "json.webpubsub.azure.v1");
    socket.on("message", (data) => { console.log(data.toString()); socket.close(); });
  `, { URL: token.value, NODE_EXTRA_CA_CERTS: service.caFile });
  assert.equal(greeting.event, "connected");
  assert.equal(greeting.userId, "ann");
});

test("a reader reads and does not send; who has no role does nothing: 403 with the reason", async () => {
  const got = await run(secretCredential + calls, { ID: apps.reader.appId, SECRET: apps.reader.secret });
  assert.deepEqual(got.read, { value: false });
  for (const refused of [got.send, got.manage, got.token]) {
    assert.equal(refused.status, 403);
    assert.match(refused.message, /Microsoft\.SignalRService\/WebPubSub\//);
  }
  const none = await run(secretCredential + calls, { ID: apps.nobody.appId, SECRET: apps.nobody.secret });
  for (const refused of Object.values(none)) {
    assert.equal(refused.status, 403);
  }
});

test("a token for another audience is refused with 401, whoever has it", async () => {
  const got = await run(`
    const real = new identity.ClientSecretCredential(env.TENANT, env.ID, env.SECRET, options);
    const credential = { getToken: () => real.getToken("api://orders/.default") };
  ` + calls, { ID: apps.owner.appId, SECRET: apps.owner.secret });
  for (const refused of Object.values(got)) {
    assert.equal(refused.status, 401);
  }
});

test("a role that is taken back counts at once", async () => {
  const { appId, principalId, secret } = await application("brief", owner);
  assert.equal((await run(secretCredential + calls, { ID: appId, SECRET: secret })).send.message, undefined);
  await service.cli("role", "remove", "--principal", principalId, "--role", owner, "--instance", "default");
  assert.equal((await run(secretCredential + calls, { ID: appId, SECRET: secret })).send.status, 403);
});
