// Group streams and invocations of @azure/web-pubsub-client.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubClient, WebPubSubJsonProtocol, WebPubSubJsonReliableProtocol } from "@azure/web-pubsub-client";
import { WebPubSubEventHandler } from "@azure/web-pubsub-express";
import { eventually, start, upstream } from "../harness.js";
import { WebPubSubProtobufProtocol, WebPubSubProtobufReliableProtocol } from "../protobuf.js";

let service, hub;
before(async () => {
  service = await start();
  hub = new WebPubSubServiceClient(service.connectionString, "room", { allowInsecureConnection: true });
});
after(() => service?.stop());

async function join(userId, protocol) {
  const { url } = await hub.getClientAccessToken({ userId, roles: ["webpubsub.joinLeaveGroup", "webpubsub.sendToGroup"] });
  const client = new WebPubSubClient(url, { protocol });
  await client.start();
  return client;
}

for (const protocol of [WebPubSubJsonProtocol, WebPubSubJsonReliableProtocol, WebPubSubProtobufProtocol, WebPubSubProtobufReliableProtocol]) {
  const name = protocol().name;
  test(`a stream of a ${name} client reaches a subscriber whole and in order`, async () => {
    const a = await join("ann", protocol()), b = await join("bob", protocol());
    await b.joinGroup("g");
    const streams = [];
    b.onGroupStream(async (stream) => {
      const got = { id: stream.streamId, parts: [] };
      streams.push(got);
      try {
        for await (const part of stream) got.parts.push(part.data);
        got.end = "done";
      } catch (e) {
        got.end = e;
      }
    });
    const out = await a.openGroupStream("g", { noEcho: true });
    for (let i = 0; i < 20; i++) await out.write({ i }, "json");
    await out.write("last", "text");
    await out.end();
    const got = await eventually("the end", () => streams.find((s) => s.end));
    assert.equal(got.id, out.streamId);
    assert.equal(got.end, "done");
    assert.deepEqual(got.parts.filter((p) => p !== ""), [...Array.from({ length: 20 }, (_, i) => ({ i })), "last"]);

    const bad = await a.openGroupStream("g", { noEcho: true });
    await bad.write("half", "text");
    await bad.abort({ message: "changed my mind", userErrorCode: "E1" });
    const failed = await eventually("the failure", () => streams.find((s) => s.id === bad.streamId && s.end));
    assert.notEqual(failed.end, "done");
    a.stop(); b.stop();
  });

  test(`an invocation of a ${name} client is answered by the handler`, async () => {
    const handler = new WebPubSubEventHandler("room", {
      path: "/h/",
      handleUserEvent: (req, res) => req.context.eventName === "fail" ? res.fail(400, "no") : res.success(JSON.stringify({ twice: req.data.n * 2 }), "json"),
    });
    const server = await upstream(handler.getMiddleware());
    await service.cli("hub", "set", "room", "--handler-url", `${server.url}/h/`, "--user-events", "*");
    const a = await join("ann", protocol());
    const answers = await Promise.all([1, 2, 3].map((n) => a.invokeEvent("double", { n }, "json")));
    assert.deepEqual(answers.map((x) => x.data), [{ twice: 2 }, { twice: 4 }, { twice: 6 }]);
    await assert.rejects(a.invokeEvent("fail", { n: 0 }, "json"), (e) => /InternalServerError|Internal server error/.test(`${e.errorDetail?.name} ${e.message}`));
    a.stop();
    await server.stop();
  });

  test(`an invocation that a ${name} client gives up is not answered`, async () => {
    let given, release;
    const called = new Promise((r) => (given = r)), hold = new Promise((r) => (release = r));
    const handler = new WebPubSubEventHandler("room", {
      path: "/h/",
      handleUserEvent: async (req, res) => {
        if (req.context.eventName === "slow") { given(); await hold; }
        res.success("done", "text");
      },
    });
    const server = await upstream(handler.getMiddleware());
    await service.cli("hub", "set", "room", "--handler-url", `${server.url}/h/`, "--user-events", "*");
    const a = await join("ann", protocol());
    const abort = new AbortController();
    const slow = a.invokeEvent("slow", "x", "text", { abortSignal: abort.signal });
    await called;
    abort.abort();
    await assert.rejects(slow, (e) => e.name === "InvocationError");
    assert.equal((await a.invokeEvent("quick", "x", "text")).data, "done"); // the slow one does not hold it up any more
    release();
    a.stop();
    await server.stop();
  });
}
