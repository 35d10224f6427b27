// Unmodified @azure/arm-webpubsub and @azure/arm-msi manage the service, pointed at it by their endpoint option alone:
// the token that they ask for is for that endpoint. Each program runs in a process of its own that trusts the local
// authority.
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { createRemoteJWKSet, jwtVerify } from "jose";
import WebSocket from "ws";
import { once } from "node:events";
import { program, serve, start } from "../harness.js";

let service, app;

before(async () => {
  service = await start("--instance-listen", "shop=127.0.0.1:0");
  app = await service.json("app", "create", "manager");
  app.secret = (await service.json("app", "secret", "create", "manager")).secretText;
  const found = await service.admin("GET", `/v1.0/servicePrincipals?$filter=${encodeURIComponent(`appId eq '${app.appId}'`)}`);
  await service.cli("role", "assign", "--principal", found.value[0].id, "--role", "Contributor", "--scope", `/subscriptions/${service.subscriptionId}`);
});

after(() => service?.stop());

/** run is program with a client for each library at hand, and what the tests agree on. */
const run = (source) => program(`
import { ClientSecretCredential } from "@azure/identity";
import { WebPubSubManagementClient } from "@azure/arm-webpubsub";
import { ManagedServiceIdentityClient } from "@azure/arm-msi";
const { ENDPOINT: endpoint, AUTHORITY: authorityHost, TENANT: tenant, CLIENT: clientId, SECRET: secret, SUBSCRIPTION: subscription } = process.env;
const credential = new ClientSecretCredential(tenant, clientId, secret, { authorityHost, disableInstanceDiscovery: true });
const client = new WebPubSubManagementClient(credential, subscription, { endpoint });
const later = new WebPubSubManagementClient(credential, subscription, { endpoint, additionalPolicies: [{ position: "perCall", policy: {
  name: "later", sendRequest(request, next) { request.headers.set("Prefer", "respond-async"); return next(request); },
} }] });
const identities = new ManagedServiceIdentityClient(credential, subscription, { endpoint });
async function all(pages) { const list = []; for await (const item of pages) list.push(item); return list; }
const refused = (promise) => promise.then(() => "accepted", (e) => e.statusCode + " " + e.code);
const group = "js", name = "shop", location = "local";
${source}
`, {
  NODE_EXTRA_CA_CERTS: service.caFile, ENDPOINT: service.adminHttpsUrl, AUTHORITY: service.httpsEndpoint, TENANT: service.tenantId,
  CLIENT: app.appId, SECRET: app.secret, SUBSCRIPTION: service.subscriptionId,
});

test("every method of the instances' client, pollers to their end", async () => {
  const got = await run(`
    const w = client.webPubSub, out = {};
    out.missing = await refused(w.get(group, name));
    out.free = await w.checkNameAvailability(location, { type: "Microsoft.SignalRService/WebPubSub", name });
    out.created = await w.beginCreateOrUpdateAndWait(group, name, { location, sku: { name: "Standard_S1", capacity: 1 }, identity: { type: "SystemAssigned" } });
    out.got = await w.get(group, name);
    out.updated = await w.beginUpdateAndWait(group, name, { location, tags: { a: "b" } });
    out.keys = await w.listKeys(group, name);
    out.renewed = await w.beginRegenerateKeyAndWait(group, name, { keyType: "Secondary" });
    await w.beginRestartAndWait(group, name);
    out.skus = (await w.listSkus(group, name)).value.length;
    out.group = (await all(w.listByResourceGroup(group))).length;
    out.subscription = (await all(w.listBySubscription())).length;
    out.operations = (await all(client.operations.list())).length;
    out.usages = await all(client.usages.list(location));
    out.replicaSkus = await refused(w.listReplicaSkus(group, name, "r"));
    // The same as long-running operations, which clients poll.
    out.slow = await later.webPubSub.beginCreateOrUpdateAndWait(group, "slow", { location }, { updateIntervalInMs: 1 });
    out.slower = await later.webPubSub.beginUpdateAndWait(group, "slow", { location, tags: { c: "d" } }, { updateIntervalInMs: 1 });
    await later.webPubSub.beginRestartAndWait(group, "slow", { updateIntervalInMs: 1 });
    await later.webPubSub.beginDeleteAndWait(group, "slow", { updateIntervalInMs: 1 });
    out.gone = await refused(w.get(group, "slow"));
    console.log(JSON.stringify(out));
  `);
  assert.equal(got.missing, "404 ResourceGroupNotFound");
  assert.equal(got.free.nameAvailable, true);
  assert.equal(got.created.provisioningState, "Succeeded");
  assert.deepEqual(got.got, got.created);
  assert.deepEqual(got.updated.tags, { a: "b" });
  assert.match(got.keys.primaryConnectionString, /^Endpoint=http.*;AccessKey=.*;Version=1\.0;$/);
  assert.equal(got.renewed.primaryKey, got.keys.primaryKey);
  assert.notEqual(got.renewed.secondaryKey, got.keys.secondaryKey);
  assert.deepEqual([got.skus, got.group, got.subscription], [4, 1, 2]);
  assert.ok(got.operations > 5);
  assert.equal(got.usages[0].limit, -1);
  assert.equal(got.replicaSkus, "404 ResourceNotFound");
  assert.equal(got.slow.name, "slow");
  assert.deepEqual(got.slower.tags, { c: "d" });
  assert.equal(got.gone, "404 ResourceNotFound");
});

test("every method of the clients for what lies below an instance", async () => {
  const got = await run(`
    const out = {}, { id } = await client.webPubSub.beginCreateOrUpdateAndWait(group, name, { location });
    const { webPubSubHubs: h, webPubSubCustomCertificates: c, webPubSubCustomDomains: d, webPubSubSharedPrivateLinkResources: l, webPubSubReplicas: r,
      webPubSubReplicaSharedPrivateLinkResources: rl, webPubSubPrivateEndpointConnections: p } = client;
    const hub = { properties: { anonymousConnectPolicy: "allow", eventHandlers: [{ urlTemplate: "http://127.0.0.1:9/{event}", userEventPattern: "*", systemEvents: ["connect"],
      auth: { type: "ManagedIdentity", managedIdentity: { resource: "uri://myUri" } } }],
      eventListeners: [{ filter: { type: "EventName", userEventPattern: "*" }, endpoint: { type: "EventHub", fullyQualifiedNamespace: "n.servicebus.windows.net", eventHubName: "e" } }] } };
    out.hub = await h.beginCreateOrUpdateAndWait("chat", group, name, hub);
    out.same = await h.beginCreateOrUpdateAndWait("chat", group, name, hub);
    out.gotHub = await h.get("chat", group, name);
    out.hubs = (await all(h.list(group, name))).length;
    await h.beginDeleteAndWait("chat", group, name);
    await h.beginDeleteAndWait("chat", group, name);

    out.cert = await c.beginCreateOrUpdateAndWait(group, name, "cert", { keyVaultBaseUri: "https://nowhere.vault.localhost", keyVaultSecretName: "cert" }, { updateIntervalInMs: 1 }).then(() => "served", (e) => e.message);
    out.certState = (await c.get(group, name, "cert")).provisioningState;
    out.certs = (await all(c.list(group, name))).length;
    out.domain = await d.beginCreateOrUpdateAndWait(group, name, "domain", { domainName: "js.example.com", customCertificate: { id: id + "/customCertificates/cert" } }, { updateIntervalInMs: 1 }).then(() => "served", (e) => e.message);
    out.gotDomain = (await d.get(group, name, "domain")).domainName;
    out.domains = (await all(d.list(group, name))).length;
    out.used = await refused(c.delete(group, name, "cert"));
    await d.beginDeleteAndWait(group, name, "domain");
    await c.delete(group, name, "cert");

    out.link = await l.beginCreateOrUpdateAndWait("link", group, name, { groupId: "sites", privateLinkResourceId: id });
    out.gotLink = (await l.get("link", group, name)).status;
    out.links = (await all(l.list(group, name))).length;
    await l.beginDeleteAndWait("link", group, name);
    out.privateLinks = await all(client.webPubSubPrivateLinkResources.list(group, name));
    out.connections = [await refused(p.get("x", group, name)), await refused(p.update("x", group, name, {})), (await all(p.list(group, name))).length];
    await p.beginDeleteAndWait("x", group, name);

    out.replicas = [await refused(r.beginCreateOrUpdateAndWait(group, name, "rep", { location })), await refused(r.get(group, name, "rep")), (await all(r.list(group, name))).length,
      await refused(r.beginUpdateAndWait(group, name, "rep", { location })), await refused(r.beginRestartAndWait(group, name, "rep")), await refused(rl.get(group, name, "rep", "link")),
      await refused(rl.beginCreateOrUpdateAndWait(group, name, "rep", "link", {})), await refused(all(rl.list(group, name, "rep")))];
    await r.delete(group, name, "rep");
    console.log(JSON.stringify(out));
  `);
  assert.deepEqual(got.same, got.hub);
  assert.deepEqual(got.gotHub, got.hub);
  assert.deepEqual(got.hub.properties.eventHandlers[0].auth, { type: "ManagedIdentity", managedIdentity: { resource: "uri://myUri" } });
  assert.match(got.cert, /cannot be served/);
  assert.match(got.domain, /cannot be served/);
  assert.equal(got.certState, "Failed");
  assert.equal(got.gotDomain, "js.example.com");
  assert.equal(got.used, "409 ResourceInUse");
  assert.equal(got.gotLink, "Approved");
  assert.deepEqual([got.hubs, got.certs, got.domains, got.links], [1, 1, 1, 1]);
  assert.equal(got.privateLinks[0].groupId, "webpubsub");
  assert.deepEqual(got.connections, ["404 ResourceNotFound", "404 ResourceNotFound", 0]);
  const missing = "404 ResourceNotFound";
  assert.deepEqual(got.replicas, ["400 FeatureNotSupported", missing, 0, missing, missing, missing, missing, missing]);
});

test("an instance made here, with a user-assigned identity, sends events with that identity's token", async () => {
  await service.cli("app", "create", "orders", "--identifier-uri", "api://orders");
  const document = await (await fetch(`${service.endpoint}/${service.tenantId}/.well-known/openid-configuration`)).json();
  const jwks = new URL(document.jwks_uri);
  const keys = createRemoteJWKSet(new URL(jwks.pathname, service.endpoint)); // the same keys over plain http: this process does not know the local authority
  const seen = [];
  const handler = await serve(async (req, res) => {
    try {
      const { payload } = await jwtVerify((req.headers.authorization ?? "").replace("Bearer ", ""), keys, { issuer: document.issuer, audience: "api://orders", algorithms: ["RS256"] });
      if (req.method === "POST") seen.push(payload.oid);
      res.setHeader("WebHook-Allowed-Origin", "*");
      res.setHeader("Content-Type", "text/plain");
      res.end("verified");
    } catch (e) {
      res.statusCode = 401;
      res.end(String(e));
    }
  });
  try {
    const got = await run(`
      const robot = await identities.userAssignedIdentities.createOrUpdate(group, "robot", { location });
      const created = await client.webPubSub.beginCreateOrUpdateAndWait(group, name, { location, identity: { type: "UserAssigned", userAssignedIdentities: { [robot.id]: {} } } });
      await client.webPubSubHubs.beginCreateOrUpdateAndWait("chat", group, name, { properties: { anonymousConnectPolicy: "allow", eventHandlers: [{ urlTemplate: "${handler.url}/{event}", userEventPattern: "*",
        auth: { type: "ManagedIdentity", managedIdentity: { resource: "api://orders" } } }] } });
      console.log(JSON.stringify({ robot, created, keys: await client.webPubSub.listKeys(group, name) }));
    `);
    assert.equal(Object.values(got.created.identity.userAssignedIdentities)[0].principalId, got.robot.principalId);
    const endpoint = got.keys.primaryConnectionString.match(/^Endpoint=(.*?);/)[1];
    const socket = new WebSocket(`${endpoint.replace("http", "ws")}/client/hubs/chat`);
    await once(socket, "open");
    const answer = once(socket, "message");
    socket.send("hello");
    assert.equal(String((await answer)[0]), "verified");
    assert.deepEqual(seen, [got.robot.principalId]);
    const closed = once(socket, "close");
    await run(`await client.webPubSub.beginDeleteAndWait(group, name); console.log("{}");`);
    assert.equal((await closed)[0], 1008);
  } finally {
    await handler.stop();
  }
});
