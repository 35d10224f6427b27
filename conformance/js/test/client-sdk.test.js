// @azure/web-pubsub-client on json.webpubsub.azure.v1 against the service.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubClient, WebPubSubJsonProtocol } from "@azure/web-pubsub-client";
import { eventually, start } from "../harness.js";

let service, hub;
before(async () => {
  service = await start();
  hub = new WebPubSubServiceClient(service.connectionString, "room", { allowInsecureConnection: true });
});
after(() => service?.stop());

async function join(userId, options = {}) {
  const client = new WebPubSubClient(
    { getClientAccessUrl: async () => (await hub.getClientAccessToken({ userId, roles: ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"] })).url },
    { protocol: WebPubSubJsonProtocol(), ...options });
  const got = [];
  let connected = 0;
  client.on("connected", () => connected++);
  client.on("group-message", (e) => got.push(e.message));
  await client.start();
  await eventually("connected", () => connected);
  return { client, got, connections: () => connected };
}

test("a chat: join, publish, echo, leave", async () => {
  const a = await join("alice"), b = await join("bob");
  await a.client.joinGroup("g");
  await b.client.joinGroup("g");
  const result = await a.client.sendToGroup("g", { text: "hello" }, "json");
  assert.equal(result.isDuplicated, false);
  await a.client.sendToGroup("g", "quiet", "text", { noEcho: true });
  await a.client.sendToGroup("g", new Uint8Array([1, 2, 3]).buffer, "binary");
  await eventually("three at bob's", () => b.got.length === 3);
  await eventually("two at alice's", () => a.got.length === 2);
  assert.deepEqual(b.got.map((m) => [m.fromUserId, m.group, m.dataType]), [["alice", "g", "json"], ["alice", "g", "text"], ["alice", "g", "binary"]]);
  assert.deepEqual([...new Uint8Array(b.got[2].data)], [1, 2, 3]);
  await b.client.leaveGroup("g");
  await a.client.sendToGroup("g", "after", "text");
  await eventually("alice's echo", () => a.got.length === 3);
  assert.equal(b.got.length, 3);
  a.client.stop(); b.client.stop();
});

test("a repeated ackId is a duplicate, delivered once", async () => {
  const a = await join("dora");
  await a.client.joinGroup("dup");
  await a.client.sendToGroup("dup", "once", "text", { ackId: 4711 });
  const again = await a.client.sendToGroup("dup", "once", "text", { ackId: 4711 });
  assert.equal(again.isDuplicated, true);
  await a.client.sendToGroup("dup", "end", "text");
  await eventually("the end", () => a.got.some((m) => m.data === "end"));
  assert.equal(a.got.filter((m) => m.data === "once").length, 1);
  a.client.stop();
});

test("without a role joining is forbidden and the connection stays", async () => {
  const { url } = await hub.getClientAccessToken({ userId: "eve" });
  const client = new WebPubSubClient(url, { protocol: WebPubSubJsonProtocol(), messageRetryOptions: { maxRetries: 0 } });
  await client.start();
  await assert.rejects(client.joinGroup("g"), (e) => e.errorDetail?.name === "Forbidden");
  await assert.rejects(client.sendToGroup("g", "x", "text"), (e) => e.errorDetail?.name === "Forbidden");
  client.stop();
});

test("an idle client stays connected: pings are answered", async () => {
  const a = await join("idle", { keepAliveIntervalInMs: 200, keepAliveTimeoutInMs: 1000 });
  await new Promise((r) => setTimeout(r, 3000)); // three of its timeouts
  assert.equal(a.connections(), 1);
  a.client.stop();
});

test("a dropped client reconnects and rejoins its groups", async () => {
  const a = await join("rejoiner"), b = await join("speaker");
  await a.client.joinGroup("again");
  await hub.closeUserConnections("rejoiner");
  await eventually("it is back", () => a.connections() === 2);
  await eventually("it is a member again", async () => {
    await b.client.sendToGroup("again", "ping", "text");
    return a.got.length > 0;
  });
  a.client.stop(); b.client.stop();
});
