// @azure/web-pubsub-express, unmodified, as the event handler of a hub; and behind it what a Node developer adds to
// verify the caller: jose, with nothing but the discovery document.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { WebPubSubEventHandler } from "@azure/web-pubsub-express";
import { WebPubSubServiceClient } from "@azure/web-pubsub";
import { WebPubSubClient, WebPubSubJsonProtocol } from "@azure/web-pubsub-client";
import WebSocket from "ws";
import { createRemoteJWKSet, jwtVerify, customFetch } from "jose";
import { readFileSync } from "node:fs";
import { Agent } from "node:https";
import https from "node:https";
import { eventually, start, upstream } from "../harness.js";

let service;
before(async () => { service = await start(); });
after(() => service?.stop());

const hubPath = (name) => `/subscriptions/${service.subscriptionId}/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default/hubs/${name}?api-version=2024-03-01`;

async function configure(hub, url, auth) {
  await service.admin("PUT", hubPath(hub), {
    properties: { eventHandlers: [{ urlTemplate: url, userEventPattern: "*", systemEvents: ["connect", "connected", "disconnected"], auth }] },
  });
  return new WebPubSubServiceClient(service.connectionString, hub, { allowInsecureConnection: true });
}

for (const [name, allowedEndpoints] of [["without allowedEndpoints", () => undefined], ["with allowedEndpoints", () => [service.endpoint]]]) {
  test(`the middleware handles connect, connected, user events and disconnected ${name}`, async () => {
    const hub = name.includes("without") ? "plain" : "origins";
    const log = [];
    const handler = new WebPubSubEventHandler(hub, {
      path: `/api/webpubsub/hubs/${hub}/`,
      allowedEndpoints: allowedEndpoints(),
      handleConnect(req, res) {
        log.push(["connect", req.context.connectionId, req.claims.sub, req.queries.id]);
        res.setState("count", 1);
        res.success({ userId: `${req.claims.sub}-checked`, groups: ["lobby"], roles: ["webpubsub.sendToGroup.lobby"] });
      },
      handleUserEvent(req, res) {
        log.push([req.context.eventName, req.context.userId, req.context.states.count, req.dataType, req.data]);
        res.setState("count", (req.context.states.count ?? 0) + 1);
        if (req.data === "fail") res.fail(400, "no");
        else if (req.dataType === "binary") res.success(req.data, "binary");
        else res.success(JSON.stringify({ echo: req.data }), "json");
      },
      onConnected: (req) => log.push(["connected", req.context.userId]),
      onDisconnected: (req) => log.push(["disconnected", req.context.userId, req.reason]),
    });
    const server = await upstream(handler.getMiddleware());
    const client = await configure(hub, `${server.url}/api/webpubsub/hubs/{hub}/`);
    const { url } = await client.getClientAccessToken({ userId: "alice" });
    const c = new WebPubSubClient(url + "&id=42", { protocol: WebPubSubJsonProtocol(), autoReconnect: false, messageRetryOptions: { maxRetries: 0 } });
    const answers = [];
    let connected;
    c.on("connected", (e) => (connected = e));
    c.on("server-message", (e) => answers.push(e.message));
    c.on("group-message", (e) => answers.push(e.message));
    await c.start();
    await eventually("connected", () => connected);
    assert.equal(connected.userId, "alice-checked");
    await c.sendEvent("greet", { hello: 1 }, "json");
    await c.sendEvent("greet", "text", "text");
    await c.sendEvent("greet", new Uint8Array([9]).buffer, "binary");
    await c.sendToGroup("lobby", "to myself", "text");
    await assert.rejects(c.sendEvent("greet", "fail", "text"), (e) => e.errorDetail?.name === "InternalServerError");
    await eventually("four answers", () => answers.length === 4);
    assert.deepEqual(answers.map((a) => a.dataType), ["json", "json", "binary", "text"]);
    assert.deepEqual(answers[0].data, { echo: { hello: 1 } });
    c.stop();
    await eventually("disconnected", () => log.some(([e]) => e === "disconnected"));
    assert.deepEqual(log[0].slice(2), [["alice"], ["42"]]);
    assert.deepEqual(log.filter(([e]) => e === "greet").map((e) => e[2]), [1, 2, 3, 4]);
    assert.ok(log.some(([e, user]) => e === "connected" && user === "alice-checked"));
    assert.ok(server.requests.every((r) => r.headers.authorization === undefined), "no token without authentication");
    await server.stop();
  });
}

test("a raw client's message comes back as the handler answered", async () => {
  const handler = new WebPubSubEventHandler("rawhub", {
    path: "/h/", handleUserEvent: (req, res) => res.success(`you said ${req.data}`, "text"),
  });
  const server = await upstream(handler.getMiddleware());
  const client = await configure("rawhub", `${server.url}/h/`);
  const { url } = await client.getClientAccessToken();
  const ws = new WebSocket(url);
  const frames = [];
  ws.on("message", (d, binary) => frames.push([binary, d.toString()]));
  await new Promise((r, e) => ws.on("open", r).on("error", e));
  ws.send("hi");
  await eventually("an answer", () => frames.length);
  assert.deepEqual(frames, [[false, "you said hi"]]);
  ws.close();
  await server.stop();
});

test("a handler's 401 reaches the client that connects", async () => {
  const handler = new WebPubSubEventHandler("denied", { path: "/h/", handleConnect: (_req, res) => res.fail(401, "who are you") });
  const server = await upstream(handler.getMiddleware());
  const client = await configure("denied", `${server.url}/h/`);
  const { url } = await client.getClientAccessToken();
  const status = await new Promise((r) => new WebSocket(url).on("unexpected-response", (_q, res) => r(res.statusCode)).on("error", () => {}));
  assert.equal(status, 401);
  await server.stop();
});

/** The fetch that jose uses, trusting the service's local authority. */
function trusting(caFile) {
  const agent = new Agent({ ca: readFileSync(caFile) });
  return (url, options) => new Promise((ok, fail) => {
    https.get(url, { agent, headers: Object.fromEntries(new Headers(options?.headers)) }, (res) => {
      let body = "";
      res.on("data", (b) => (body += b)).on("end", () => ok(new Response(body, { status: res.statusCode, headers: { "content-type": res.headers["content-type"] } })));
    }).on("error", fail);
  });
}

/** verifier accepts what its discovery document says and nothing else. */
async function verifier(documentURL, audience, issuer) {
  const fetchJSON = trusting(service.caFile);
  const document = await (await fetchJSON(documentURL)).json();
  const keys = createRemoteJWKSet(new URL(document.jwks_uri), { [customFetch]: fetchJSON });
  return (token) => jwtVerify(token, keys, { issuer: issuer ?? document.issuer, audience, algorithms: ["RS256"] });
}

test("jose accepts the service's token by discovery alone, v1 and v2, and refuses another audience", async () => {
  await service.cli("identity", "assign", "--system");
  const me = await service.json("identity", "show");
  const v1 = await service.json("app", "create", "orders", "--identifier-uri", "api://orders");
  const v2 = await service.json("app", "create", "billing", "--identifier-uri", "api://billing", "--token-version", "2");
  const authority = service.httpsEndpoint;
  for (const { hub, resource, documentURL, audience, issuer, caller } of [
    { hub: "tokens1", resource: "api://orders", documentURL: `${service.issuer}.well-known/openid-configuration`, audience: "api://orders", caller: (c) => c.appid },
    { hub: "tokens2", resource: "api://billing", documentURL: `${service.issuerV2}/.well-known/openid-configuration`, audience: v2.appId, caller: (c) => c.azp },
    { hub: "tokens3", resource: v1.appId, documentURL: `${authority}/common/.well-known/openid-configuration`, audience: v1.appId, issuer: service.issuer, caller: (c) => c.appid },
  ]) {
    const verify = await verifier(documentURL, audience, issuer);
    const seen = [];
    const handler = new WebPubSubEventHandler(hub, { path: "/h/", handleUserEvent: (_req, res) => res.success("ok", "text") });
    const server = await upstream(async (req, res, next) => {
      try {
        const { payload } = await verify(req.headers.authorization?.replace(/^Bearer /, ""));
        seen.push([req.method, payload]);
        next();
      } catch (e) {
        res.status(401).end(e.message);
      }
    }, handler.getMiddleware());
    const client = await configure(hub, `${server.url}/h/`, { type: "ManagedIdentity", managedIdentity: { resource } });
    const { url } = await client.getClientAccessToken({ userId: "alice" });
    const c = new WebPubSubClient(url, { protocol: WebPubSubJsonProtocol(), autoReconnect: false });
    await c.start();
    await c.sendEvent("x", "data", "text");
    assert.ok(seen.some(([method]) => method === "OPTIONS"), "the validation carries the token too");
    for (const [, claims] of seen) {
      assert.equal(claims.aud, audience);
      assert.equal(claims.oid, me.principalId);
      assert.equal(claims.tid, service.tenantId);
      assert.equal(caller(claims), me.clientId);
    }
    const other = await verifier(documentURL, "api://somebody-else", issuer);
    await assert.rejects(other(server.requests.at(-1).headers.authorization.slice(7)), /aud/);
    c.stop();
    await server.stop();
  }
});
