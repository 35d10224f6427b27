// @azure/web-pubsub-client over a proxy that cuts its connection: as it is out of the box, with
// json.reliable.webpubsub.azure.v1, and with each of the four subprotocols.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import net from "node:net";
import { once } from "node:events";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubClient, WebPubSubJsonProtocol, WebPubSubJsonReliableProtocol } from "@azure/web-pubsub-client";
import { WebPubSubEventHandler } from "@azure/web-pubsub-express";
import { eventually, start, upstream } from "../harness.js";
import { WebPubSubProtobufProtocol, WebPubSubProtobufReliableProtocol } from "../protobuf.js";

const protocols = [WebPubSubJsonProtocol, WebPubSubJsonReliableProtocol, WebPubSubProtobufProtocol, WebPubSubProtobufReliableProtocol].map((make) => make());

let service, hub, proxy;
before(async () => {
  service = await start();
  hub = new WebPubSubServiceClient(service.connectionString, "room", { allowInsecureConnection: true });
  proxy = await cuttableProxy(Number(new URL(service.endpoint).port));
});
after(async () => { proxy?.stop(); await service?.stop(); });

/** cuttableProxy forwards to a local port and can drop every connection without a farewell, or refuse new ones. */
async function cuttableProxy(port) {
  const sockets = new Set();
  let open = true;
  const server = net.createServer((a) => {
    if (!open) return a.destroy();
    const b = net.connect(port, "127.0.0.1");
    for (const s of [a, b]) { sockets.add(s); s.on("error", () => {}).on("close", () => { sockets.delete(s); a.destroy(); b.destroy(); }); }
    a.pipe(b); b.pipe(a);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: server.address().port,
    cut: () => sockets.forEach((s) => s.destroy()),
    close: () => { open = false; sockets.forEach((s) => s.destroy()); },
    reopen: () => { open = true; },
    stop: () => { open = false; sockets.forEach((s) => s.destroy()); server.close(); },
  };
}

async function join(userId, options = {}) {
  const client = new WebPubSubClient({
    getClientAccessUrl: async () => {
      const { url } = await hub.getClientAccessToken({ userId, roles: ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"], ...options.token });
      return url.replace(`:${new URL(service.endpoint).port}/`, `:${proxy.port}/`); // through the proxy, the audience unchanged
    },
  }, { ...options.client });
  const got = [], connected = [];
  client.on("connected", (e) => connected.push(e));
  client.on("group-message", (e) => got.push(e.message));
  client.on("server-message", (e) => got.push(e.message));
  await client.start();
  await eventually("connected", () => connected.length);
  return { client, got, connected };
}

test("the client's default protocol connects and its messages are numbered", async () => {
  const a = await join("ann");
  await a.client.joinGroup("g");
  for (let i = 0; i < 5; i++) await a.client.sendToGroup("g", `m${i}`, "text");
  await eventually("five messages", () => a.got.length === 5);
  assert.deepEqual(a.got.map((m) => m.sequenceId), [1, 2, 3, 4, 5]);
  a.client.stop();
});

test("what is sent while the client is away arrives after it has recovered, once and in order", async () => {
  const a = await join("away"), group = hub.group("kept");
  await a.client.joinGroup("kept");
  await group.sendToAll("before", { contentType: "text/plain" });
  await eventually("the first message", () => a.got.length === 1);
  proxy.close();
  for (let i = 0; i < 50; i++) await group.sendToAll(`m${i}`, { contentType: "text/plain" });
  assert.equal(await hub.connectionExists(a.connected[0].connectionId), true);
  proxy.reopen();
  await eventually("everything", () => a.got.length === 51, 15_000);
  assert.deepEqual(a.got.map((m) => m.data), ["before", ...Array.from({ length: 50 }, (_, i) => `m${i}`)]);
  assert.equal(a.connected.length, 1, "it is the same connection: no second connected event");
  a.client.stop();
});

test("a client that is cut off again and again misses and repeats nothing", async () => {
  const a = await join("unlucky"), group = hub.group("cuts");
  await a.client.joinGroup("cuts");
  for (let i = 0; i < 100; i++) {
    await group.sendToAll(i);
    if (i % 20 === 10) proxy.cut();
  }
  await eventually("all hundred", () => a.got.length >= 100, 20_000);
  assert.deepEqual(a.got.map((m) => m.data), Array.from({ length: 100 }, (_, i) => i));
  a.client.stop();
});

test("a recovered client publishes on, and a repeated ackId is a duplicate", async () => {
  const a = await join("publisher"), b = await join("listener");
  await b.client.joinGroup("dup");
  await a.client.sendToGroup("dup", "once", "text", { ackId: 77 });
  proxy.cut();
  const again = await eventually("it is back", () => a.client.sendToGroup("dup", "once", "text", { ackId: 77 }).catch(() => undefined), 15_000);
  assert.equal(again.isDuplicated, true);
  await a.client.sendToGroup("dup", "end", "text");
  await eventually("the end", () => b.got.some((m) => m.data === "end"), 15_000);
  assert.deepEqual(b.got.map((m) => m.data), ["once", "end"]);
  a.client.stop(); b.client.stop();
});

test("recovery is no event for the application; a regenerated key does not hinder it", async () => {
  const log = [];
  const handler = new WebPubSubEventHandler("room", {
    path: "/h/",
    handleConnect: (_req, res) => { log.push("connect"); res.success(); },
    onConnected: () => log.push("connected"),
    onDisconnected: () => log.push("disconnected"),
    handleUserEvent: (req, res) => { log.push(req.data); res.success(`re: ${req.data}`, "text"); },
  });
  const server = await upstream(handler.getMiddleware());
  await service.cli("hub", "set", "room", "--handler-url", `${server.url}/h/`, "--user-events", "*", "--system-events", "connect,connected,disconnected");
  const a = await join("observed");
  await a.client.sendEvent("x", "one", "text");
  await service.cli("key", "regenerate", "primary");
  await service.cli("key", "regenerate", "secondary");
  proxy.cut();
  await eventually("it is back", () => a.client.sendEvent("x", "two", "text").then(() => true, () => false), 15_000);
  await eventually("both answers", () => a.got.length === 2);
  assert.deepEqual(a.got.map((m) => m.data), ["re: one", "re: two"]);
  assert.deepEqual(log.filter((e) => e.startsWith("conn")).sort(), ["connect", "connected"]);
  assert.ok(!log.includes("disconnected"));
  hub = new WebPubSubServiceClient((await service.json("key", "list")).primaryConnectionString, "room", { allowInsecureConnection: true });
  await hub.closeConnection(a.connected[0].connectionId, { reason: "enough" });
  await eventually("the application hears of the end", () => log.includes("disconnected"));
  a.client.stop();
  await server.stop();
});

test("a connection that the server closed is not recovered: the client gets a new one", async () => {
  await service.cli("hub", "delete", "room");
  const a = await join("closed");
  const first = a.connected[0].connectionId;
  await hub.closeConnection(first, { reason: "go" });
  await eventually("a new connection", () => a.connected.length === 2, 15_000);
  assert.notEqual(a.connected[1].connectionId, first);
  a.client.stop();
});

for (const protocol of protocols) {
  test(`${protocol.name}: every kind of data goes to and fro between all subprotocols`, async () => {
    const group = `types ${protocol.name}`;
    const a = await join("ann", { client: { protocol } });
    const all = await Promise.all(protocols.map((p) => join("bob", { client: { protocol: p } })));
    await Promise.all(all.map((b) => b.client.joinGroup(group)));
    const any = new Uint8Array([10, 3, 116, 47, 120, 18, 1, 1]).buffer; // a google.protobuf.Any: type_url "t/x", value 1
    const sent = [["text", "hällo"], ["json", { a: [1, "x", null] }], ["binary", new Uint8Array([0, 255, 1]).buffer], ["protobuf", any]];
    for (const [type, data] of sent) await a.client.sendToGroup(group, data, type);
    for (const b of all) {
      await eventually("everything", () => b.got.length === sent.length);
      assert.deepEqual(b.got.map((m) => [m.dataType, m.data]), sent);
      b.client.stop();
    }
    a.client.stop();
  });

  test(`${protocol.name}: what happens when the connection is cut`, async () => {
    const a = await join("cut", { client: { protocol } }), name = `cut ${protocol.name}`, group = hub.group(name);
    await a.client.joinGroup(name);
    await group.sendToAll("one", { contentType: "text/plain" });
    await eventually("the first message", () => a.got.length === 1);
    const first = a.connected[0].connectionId;
    proxy.close();
    await group.sendToAll("while away", { contentType: "text/plain" });
    proxy.reopen();
    if (protocol.isReliableSubProtocol) {
      await eventually("what was missed", () => a.got.length === 2, 15_000);
      assert.deepEqual(a.got.map((m) => [m.sequenceId, m.data]), [[1, "one"], [2, "while away"]]);
      assert.equal(a.connected.length, 1);
      assert.equal(await hub.connectionExists(first), true);
    } else {
      await eventually("a new connection", () => a.connected.length === 2, 15_000);
      assert.notEqual(a.connected[1].connectionId, first);
      await eventually("it has joined again", () => hub.group(name).sendToAll("two", { contentType: "text/plain" }).then(() => a.got.some((m) => m.data === "two")));
      assert.ok(!a.got.some((m) => m.data === "while away"));
    }
    await a.client.sendToGroup(name, "end", "text");
    await eventually("the end", () => a.got.at(-1).data === "end");
    a.client.stop();
  });
}

for (const protocol of protocols.filter((p) => p.isReliableSubProtocol)) {
  test(`${protocol.name}: a stream goes on after its publisher was cut off`, async () => {
    const group = `stream ${protocol.name}`;
    const a = await join("publisher", { client: { protocol } }), b = await join("reader", { client: { protocol } });
    await b.client.joinGroup(group);
    const parts = [];
    let end;
    b.client.onGroupStream(async (stream) => {
      for await (const part of stream) parts.push(part.data);
      end = "done";
    });
    const out = await a.client.openGroupStream(group, { noEcho: true });
    for (let i = 0; i < 60; i++) {
      await out.write({ i }, "json");
      if (i % 20 === 10) proxy.cut();
    }
    await out.end();
    await eventually("the end", () => end, 20_000);
    assert.deepEqual(parts, Array.from({ length: 60 }, (_, i) => ({ i })));
    a.client.stop(); b.client.stop();
  });
}
