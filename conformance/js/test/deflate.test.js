// permessage-deflate with the ws package, alone and under the SDK's client.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubClient } from "@azure/web-pubsub-client";
import WebSocket from "ws";
import { eventually, start } from "../harness.js";

const roles = ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"];
const long = "so many words ".repeat(500);
let service, hub, instance;
before(async () => {
  service = await start();
  hub = new WebPubSubServiceClient(service.connectionString, "chat", { allowInsecureConnection: true });
  instance = `/subscriptions/${service.subscriptionId}/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default?api-version=2024-03-01`;
});
after(() => service?.stop());

const compress = (on) => service.admin("PATCH", instance, { properties: { tabard: { permessageDeflate: on } } });

/** connect opens a raw client that counts the bytes that it read. */
async function connect(options) {
  const { url } = await hub.getClientAccessToken({ roles, groups: ["g"] });
  const ws = new WebSocket(url, "json.webpubsub.azure.v1", options);
  const frames = [];
  ws.on("message", (data) => frames.push(JSON.parse(data)));
  await eventually("connected", () => frames.length);
  return { ws, frames, bytes: () => ws._socket.bytesRead };
}

test("it is off by default, and a client that offers it is served without", async () => {
  const a = await connect({ perMessageDeflate: true });
  assert.equal(a.ws.extensions, "");
  await hub.group("g").sendToAll(long, { contentType: "text/plain" });
  await eventually("the message", () => a.frames.length === 2);
  assert.ok(a.bytes() > long.length);
  a.ws.close();
});

test("clients with and without it get the same message, in fewer or more bytes, and publish themselves", async () => {
  await compress(true);
  const [packed, plain] = await Promise.all([connect({ perMessageDeflate: { threshold: 0 } }), connect({ perMessageDeflate: false })]);
  assert.equal(packed.ws.extensions, "permessage-deflate");
  assert.equal(plain.ws.extensions, "");
  await hub.group("g").sendToAll(long, { contentType: "text/plain" });
  packed.ws.send(JSON.stringify({ type: "sendToGroup", group: "g", dataType: "text", data: `${long}!`, noEcho: true, ackId: 1 }));
  await eventually("both messages", () => plain.frames.length === 3 && packed.frames.length === 3);
  assert.equal(plain.frames[1].data, long);
  assert.equal(plain.frames[2].data, `${long}!`);
  assert.equal(packed.frames.find((f) => f.type === "message").data, long);
  assert.ok(packed.bytes() < long.length / 2, `${packed.bytes()} bytes`);
  assert.ok(plain.bytes() > 2 * long.length);
  packed.ws.close(); plain.ws.close();
});

test("the SDK's client, reliable as it is out of the box, misses nothing of what is compressed", async () => {
  await compress(true);
  const client = new WebPubSubClient({ getClientAccessUrl: async () => (await hub.getClientAccessToken({ roles })).url });
  const got = [];
  client.on("group-message", (e) => got.push(e.message));
  await client.start();
  await client.joinGroup("sdk");
  for (let i = 0; i < 20; i++) await client.sendToGroup("sdk", { i, long: i % 2 ? long : "short" }, "json");
  await eventually("twenty messages", () => got.length === 20);
  assert.deepEqual(got.map((m) => [m.sequenceId, m.data.i, m.data.long.length]), Array.from({ length: 20 }, (_, i) => [i + 1, i, i % 2 ? long.length : 5]));
  client.stop();
});
