// Every public method of @azure/web-pubsub against the service, over plain http as an access-key user has it.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { WebPubSubServiceClient, AzureKeyCredential } from "@azure/web-pubsub";
import { WebPubSubClient, WebPubSubJsonProtocol } from "@azure/web-pubsub-client";
import WebSocket from "ws";
import { eventually, start } from "../harness.js";

let service, hub;
before(async () => {
  service = await start();
  hub = new WebPubSubServiceClient(service.connectionString, "chat", { allowInsecureConnection: true });
});
after(() => service?.stop());

/** member connects an unmodified client and collects what it receives. */
async function member(options = {}) {
  const { url } = await hub.getClientAccessToken(options);
  const client = new WebPubSubClient(url, { protocol: WebPubSubJsonProtocol(), autoReconnect: false });
  const got = { server: [], group: [], stopped: false };
  let connected;
  client.on("connected", (e) => (connected = e));
  client.on("server-message", (e) => got.server.push(e.message));
  client.on("group-message", (e) => got.group.push(e.message));
  client.on("disconnected", (e) => (got.disconnected = e));
  client.on("stopped", () => (got.stopped = true));
  await client.start();
  await eventually("the client is connected", () => connected);
  return { client, got, id: connected.connectionId, userId: connected.userId };
}

test("text, JSON and binary reach everybody with their type", async () => {
  const a = await member({ userId: "alice" });
  await hub.sendToAll("hi", { contentType: "text/plain" });
  await hub.sendToAll({ x: 1, list: ["é"] });
  await hub.sendToAll(new Uint8Array([0, 255]).buffer);
  await eventually("three messages", () => a.got.server.length === 3);
  assert.deepEqual(a.got.server.map((m) => m.dataType), ["text", "json", "binary"]);
  assert.equal(a.got.server[0].data, "hi");
  assert.deepEqual(a.got.server[1].data, { x: 1, list: ["é"] });
  assert.deepEqual([...new Uint8Array(a.got.server[2].data)], [0, 255]);
  a.client.stop();
});

test("excluded connections and filters narrow a publication", async () => {
  const a = await member({ userId: "ann" }), b = await member({ userId: "o'neil" });
  await hub.sendToAll("not-b", { contentType: "text/plain", excludedConnections: [b.id] });
  await hub.sendToAll("only-b", { contentType: "text/plain", filter: "userId eq 'o''neil'" });
  await hub.sendToAll("last", { contentType: "text/plain" });
  await eventually("the last message", () => [a, b].every((m) => m.got.server.some((x) => x.data === "last")));
  assert.deepEqual(a.got.server.map((m) => m.data), ["not-b", "last"]);
  assert.deepEqual(b.got.server.map((m) => m.data), ["only-b", "last"]);
  await assert.rejects(hub.sendToAll("x", { contentType: "text/plain", filter: "userId lt 1" }), (e) => e.statusCode === 400 && e.code === "Error.BadRequest");
  a.client.stop(); b.client.stop();
});

test("users and connections are addressed, odd names included", async () => {
  const user = "us er/1%?é";
  const a = await member({ userId: user }), b = await member({ userId: user });
  assert.equal(a.userId, user);
  await hub.sendToUser(user, "both", { contentType: "text/plain" });
  await hub.sendToConnection(a.id, "one", { contentType: "text/plain" });
  await eventually("messages", () => a.got.server.length === 2 && b.got.server.length === 1);
  assert.equal(await hub.userExists(user), true);
  assert.equal(await hub.userExists("nobody"), false);
  assert.equal(await hub.connectionExists(a.id), true);
  assert.equal(await hub.connectionExists("missing"), false);
  await hub.sendToConnection("missing", "x", { contentType: "text/plain" });
  await hub.closeUserConnections(user, { reason: "done" });
  await eventually("both are closed", () => a.got.stopped && b.got.stopped);
  assert.equal(a.got.disconnected.message.message, "done");
});

test("group membership is managed from the server", async () => {
  const a = await member({ userId: "gina" });
  const group = hub.group("g/1");
  await group.addConnection(a.id);
  assert.equal(await hub.groupExists("g/1"), true);
  await group.sendToAll({ n: 1 });
  await eventually("a group message", () => a.got.group.length === 1);
  assert.equal(a.got.group[0].group, "g/1");
  await group.removeConnection(a.id);
  assert.equal(await hub.groupExists("g/1"), false);
  await group.addUser("gina");
  await group.sendToAll("again", { contentType: "text/plain" });
  await eventually("a second group message", () => a.got.group.length === 2);
  await hub.removeUserFromAllGroups("gina");
  assert.equal(await hub.groupExists("g/1"), false);
  await hub.addConnectionsToGroups(["x", "y"], "userId eq 'gina'");
  assert.equal(await hub.groupExists("y"), true);
  await hub.removeConnectionsFromGroups(["x"], "userId eq 'gina'");
  assert.equal(await hub.groupExists("x"), false);
  await hub.removeConnectionFromAllGroups(a.id);
  assert.equal(await hub.groupExists("y"), false);
  await group.removeUser("gina");
  await assert.rejects(group.addConnection("missing"), (e) => e.statusCode === 404 && e.code === "Info.Connection.NotExisted");
  a.client.stop();
});

test("the members of a group are listed page by page", async () => {
  const members = await Promise.all(["p1", "p2", "p3"].map((userId) => member({ userId, groups: ["paged"] })));
  const ids = [];
  for await (const m of await hub.group("paged").listConnections({ maxPageSize: 1 })) ids.push(m.connectionId);
  assert.deepEqual(ids.sort(), members.map((m) => m.id).sort());
  const two = [];
  for await (const m of await hub.group("paged").listConnections({ top: 2 })) two.push(m.userId);
  assert.equal(two.length, 2);
  members.forEach((m) => m.client.stop());
});

test("permissions are granted, checked and revoked", async () => {
  const a = await member();
  assert.equal(await hub.hasPermission(a.id, "sendToGroup", { targetName: "g" }), false);
  await assert.rejects(a.client.sendToGroup("g", "x", "text", { ackId: 1 }), (e) => e.errorDetail?.name === "Forbidden");
  await hub.grantPermission(a.id, "sendToGroup", { targetName: "g" });
  assert.equal(await hub.hasPermission(a.id, "sendToGroup", { targetName: "g" }), true);
  await a.client.sendToGroup("g", "x", "text");
  await hub.revokePermission(a.id, "sendToGroup", { targetName: "g" });
  assert.equal(await hub.hasPermission(a.id, "sendToGroup", { targetName: "g" }), false);
  a.client.stop();
});

test("a closed connection hears why", async () => {
  const a = await member();
  await hub.closeConnection(a.id, { reason: "bye bye" });
  await eventually("it is closed", () => a.got.stopped);
  assert.equal(await hub.connectionExists(a.id), false);
  const b = await member({ groups: ["closing"] }), c = await member();
  await hub.group("closing").closeAllConnections({ reason: "x" });
  await eventually("the group's member is closed", () => b.got.stopped);
  assert.equal(c.got.stopped, false);
  await hub.closeAllConnections({ excludedConnections: [] });
  await eventually("everybody is closed", () => c.got.stopped);
});

test("either key signs, and a regenerated one stops working", async () => {
  const keys = await service.json("key", "list");
  const endpoint = service.endpoint;
  const second = new WebPubSubServiceClient(endpoint, new AzureKeyCredential(keys.secondaryKey), "chat", { allowInsecureConnection: true });
  await second.sendToAll("x", { contentType: "text/plain" });
  await service.cli("key", "regenerate", "secondary");
  await assert.rejects(second.sendToAll("x", { contentType: "text/plain" }), (e) => e.statusCode === 401);
  await hub.sendToAll("x", { contentType: "text/plain" });
  const wrong = new WebPubSubServiceClient(endpoint, new AzureKeyCredential("x".repeat(44)), "chat", { allowInsecureConnection: true });
  await assert.rejects(wrong.sendToAll("x", { contentType: "text/plain" }), (e) => e.statusCode === 401);
});

test("a raw client speaks without any subprotocol", async () => {
  const { url } = await hub.getClientAccessToken({ groups: ["raw"] });
  const ws = new WebSocket(url);
  const frames = [];
  ws.on("message", (data, binary) => frames.push([binary, data.toString()]));
  await new Promise((r, e) => ws.on("open", r).on("error", e));
  await hub.group("raw").sendToAll({ a: 1 });
  await hub.group("raw").sendToAll(new Uint8Array([65]).buffer);
  await eventually("two frames", () => frames.length === 2);
  assert.deepEqual(frames, [[false, '{"a":1}'], [true, "A"]]);
  ws.close();
});
