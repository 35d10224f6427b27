// A chat written with nothing but the public SDKs: people in rooms, a bot on the server's side, a moderator. It uses every
// public method of both SDKs, and the last test fails for each that it, or a later version of an SDK, left out.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { AzureKeyCredential, WebPubSubServiceClient, odata } from "@azure/web-pubsub";
import { InvocationError, SendMessageError, WebPubSubClient } from "@azure/web-pubsub-client";
import { WebPubSubEventHandler } from "@azure/web-pubsub-express";
import { eventually, start, upstream } from "../harness.js";

/** watch records which methods of a class are called, and returns the names of those that were not. */
function watch(name, prototype) {
  const called = new Set();
  const methods = Object.getOwnPropertyNames(prototype).filter((m) => m !== "constructor" && !m.startsWith("_"));
  for (const m of methods) {
    const { value, get, ...rest } = Object.getOwnPropertyDescriptor(prototype, m);
    if (get) Object.defineProperty(prototype, m, { ...rest, get() { called.add(m); return get.call(this); } });
    else prototype[m] = function (...args) { called.add(m); return value.apply(this, args); };
  }
  return () => methods.filter((m) => !called.has(m)).map((m) => `${name}.${m}`);
}

const missing = [
  watch("WebPubSubClient", WebPubSubClient.prototype),
  watch("WebPubSubServiceClient", WebPubSubServiceClient.prototype),
  watch("AzureKeyCredential", AzureKeyCredential.prototype),
];

let service, server, app;
before(async () => {
  service = await start();
  const { primaryKey } = await service.json("key", "list");
  server = new WebPubSubServiceClient(service.endpoint, new AzureKeyCredential(primaryKey), "chat", { allowInsecureConnection: true });
  missing.push(watch("WebPubSubGroup", Object.getPrototypeOf(server.group("any"))));
  const handler = new WebPubSubEventHandler("chat", {
    path: "/bot/",
    handleUserEvent: (req, res) => {
      switch (req.context.eventName) {
        case "time": return res.success("noon", "text");
        case "say": return res.success(`${req.context.userId} said ${req.data}`, "text");
        default: return res.fail(400, "the bot does not know that");
      }
    },
  });
  app = await upstream(handler.getMiddleware());
  await service.cli("hub", "set", "chat", "--handler-url", `${app.url}/bot/`, "--user-events", "*");
});
after(async () => { await app?.stop(); await service?.stop(); });

/** enter brings a person in, with the client as it is out of the box. */
async function enter(userId, token = { roles: ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"] }, options = {}) {
  const client = new WebPubSubClient({ getClientAccessUrl: async () => (await server.getClientAccessToken({ userId, ...token })).url }, options);
  const heard = [], events = [];
  client.on("group-message", (e) => heard.push([e.message.group, e.message.fromUserId, e.message.data]));
  client.on("server-message", (e) => heard.push(["bot", e.message.data]));
  let id;
  client.on("connected", (e) => { id = e.connectionId; events.push("connected"); });
  for (const event of ["disconnected", "stopped", "rejoin-group-failed"]) client.on(event, () => events.push(event));
  await client.start();
  await eventually("connected", () => id);
  return { client, heard, events, id: () => id };
}

test("people talk in a room, the bot answers and announces", async () => {
  const ann = await enter("ann"), bob = await enter("bob");
  await ann.client.joinGroup("room");
  await bob.client.joinGroup("room");
  assert.equal(await server.groupExists("room"), true);
  await ann.client.sendToGroup("room", "hi", "text");
  await bob.client.sendToGroup("room", { text: "hello" }, "json", { noEcho: true });
  await eventually("ann hears both", () => ann.heard.length === 2);
  await eventually("bob hears ann", () => bob.heard.length === 1);
  assert.deepEqual(ann.heard, [["room", "ann", "hi"], ["room", "bob", { text: "hello" }]]);

  await ann.client.sendEvent("say", "bot?", "text");
  await eventually("the bot answers", () => ann.heard.some(([from, text]) => from === "bot" && text === "ann said bot?"));
  assert.equal((await bob.client.invokeEvent("time", "", "text")).data, "noon");
  await assert.rejects(bob.client.invokeEvent("nonsense", "", "text"), InvocationError);

  await server.sendToAll("welcome", { contentType: "text/plain" });
  await server.sendToUser("bob", "psst", { contentType: "text/plain" });
  await server.sendToConnection(ann.id(), { to: "ann" });
  await server.group("room").sendToAll("all in the room", { contentType: "text/plain", filter: odata`userId ne ${"ann"}` });
  await eventually("bob hears it", () => bob.heard.some((m) => m[2] === "all in the room"));
  await eventually("ann hears hers", () => ann.heard.some((m) => m[0] === "bot" && m[1]?.to === "ann"));
  assert.ok(!ann.heard.some((m) => m[2] === "all in the room") && !ann.heard.some((m) => m[1] === "psst"));
  assert.ok(bob.heard.some((m) => m[1] === "psst") && bob.heard.some((m) => m[1] === "welcome"));
  ann.client.stop(); bob.client.stop();
});

test("a long answer is streamed, and a listener that was taken off hears nothing", async () => {
  const ann = await enter("ann"), bob = await enter("bob");
  await bob.client.joinGroup("stream");
  const never = () => assert.fail("it was taken off");
  bob.client.on("group-message", never);
  bob.client.off("group-message", never);
  let text = "", ended;
  bob.client.onGroupStream(async (stream) => {
    for await (const part of stream) text += part.data;
    ended = true;
  });
  const out = await ann.client.openGroupStream("stream", { noEcho: true });
  for (const word of ["one ", "two ", "three"]) await out.write(word, "text");
  await out.end();
  await eventually("the end", () => ended);
  assert.equal(text, "one two three");
  ann.client.stop(); bob.client.stop();
});

test("a moderator decides who may speak and who is in", async () => {
  const guest = await enter("guest", {}, { messageRetryOptions: { maxRetries: 0 } }), room = server.group("lobby");
  assert.equal(await server.userExists("guest") && await server.connectionExists(guest.id()), true);
  await assert.rejects(guest.client.sendToGroup("lobby", "x", "text"), SendMessageError);
  await server.grantPermission(guest.id(), "sendToGroup", { targetName: "lobby" });
  assert.equal(await server.hasPermission(guest.id(), "sendToGroup", { targetName: "lobby" }), true);
  await room.addConnection(guest.id());
  await guest.client.sendToGroup("lobby", "thanks", "text");
  await eventually("the guest hears it", () => guest.heard.some((m) => m[2] === "thanks"));
  await server.revokePermission(guest.id(), "sendToGroup", { targetName: "lobby" });
  await assert.rejects(guest.client.sendToGroup("lobby", "x", "text"), (e) => e.errorDetail.name === "Forbidden");

  const members = async (group) => { const ids = []; for await (const m of await server.group(group).listConnections()) ids.push(m.connectionId); return ids; };
  assert.deepEqual(await members("lobby"), [guest.id()]);
  await room.removeConnection(guest.id());
  await room.addUser("guest");
  await room.removeUser("guest");
  assert.deepEqual(await members("lobby"), []);
  await server.addConnectionsToGroups(["x", "y", "z"], odata`userId eq ${"guest"}`);
  await server.removeConnectionsFromGroups(["x"], odata`userId eq ${"guest"}`);
  assert.deepEqual([await members("x"), await members("y")], [[], [guest.id()]]);
  await server.removeConnectionFromAllGroups(guest.id());
  await room.addUser("guest");
  await server.removeUserFromAllGroups("guest");
  assert.equal(await server.groupExists("y") || await server.groupExists("lobby"), false);
  guest.client.stop();
});

test("who is thrown out comes back and is in the room again; who leaves is not", async () => {
  const ann = await enter("ann");
  await ann.client.joinGroup("room");
  await ann.client.joinGroup("other");
  await ann.client.leaveGroup("other");
  for (const throwOut of [
    () => server.closeConnection(ann.id(), { reason: "once" }), () => server.closeUserConnections("ann"),
    () => server.group("room").closeAllConnections(), () => server.closeAllConnections(),
  ]) {
    const before = ann.id();
    await throwOut();
    await eventually("ann is back", () => ann.id() !== before, 15_000);
    await eventually("and in the room", () => server.groupExists("room"), 15_000);
    assert.equal(await server.groupExists("other"), false);
  }
  assert.equal(ann.events.filter((e) => e === "disconnected").length, 4);
  ann.client.stop();
  await eventually("it has stopped", () => ann.events.at(-1) === "stopped");
});

test("a key is replaced while the server's client lives on", async () => {
  const { secondaryKey } = await service.json("key", "list");
  const credential = new AzureKeyCredential("x".repeat(44));
  const other = new WebPubSubServiceClient(service.endpoint, credential, "chat", { allowInsecureConnection: true });
  await assert.rejects(other.sendToAll("x", { contentType: "text/plain" }), (e) => e.statusCode === 401);
  credential.update(secondaryKey);
  assert.equal(credential.key, secondaryKey);
  await other.sendToAll("x", { contentType: "text/plain" });
});

test("no public method of the SDKs was left out", () => {
  assert.deepEqual(missing.flatMap((of) => of()), []);
});
