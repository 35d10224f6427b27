// tabard doctor against @azure/web-pubsub-express, unmodified, which verifies nothing (its README says so), and against
// the same application behind tabard guard.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { WebPubSubEventHandler } from "@azure/web-pubsub-express";
import { examine, start, startGuard, upstream } from "../harness.js";

let service;
before(async () => { service = await start(); });
after(() => service?.stop());

const attacks = ["no_token", "wrong_audience", "other_identity", "expired", "foreign_key", "alg_none", "hs256_public_key", "replayed_id", "wrong_origin", "oversize"];

const names = (findings) => findings.map((f) => f.attack);

async function application() {
  const events = [];
  const handler = new WebPubSubEventHandler("orders", { path: "/api/webpubsub/hubs/orders/", handleUserEvent: (req, res) => { events.push(req.data); res.success("ok", "text"); } });
  const server = await upstream(handler.getMiddleware());
  return { ...server, events, handlerURL: `${server.url}/api/webpubsub/hubs/orders/` };
}

test("the stock middleware accepts every attack, and the doctor says so", async () => {
  const app = await application();
  const report = await examine(service, app.handlerURL);
  assert.deepEqual(names(report.accepted), attacks);
  assert.deepEqual(report.refused, []);
  assert.equal(report.code, 4);
  assert.match(report.stderr, /accepted 10 of 10/);
  assert.ok(app.events.length >= attacks.length, "the application heard them");
  assert.ok(report.accepted.every((f) => f.fix), "each with advice");
  await app.stop();
});

test("with allowedEndpoints it still accepts all but the unknown origin", async () => {
  const handler = new WebPubSubEventHandler("orders", { path: "/h/", allowedEndpoints: [service.endpoint], handleUserEvent: (_req, res) => res.success("ok", "text") });
  const server = await upstream(handler.getMiddleware());
  const report = await examine(service, `${server.url}/h/`, "--hub", "orders");
  assert.deepEqual(names(report.refused), ["wrong_origin"]);
  assert.equal(report.code, 4);
  await server.stop();
});

test("the same application behind tabard guard accepts none", async () => {
  await service.cli("identity", "assign", "--system");
  const me = await service.json("identity", "show");
  await service.json("app", "create", "orders", "--identifier-uri", "api://orders");
  const app = await application();
  const guard = await startGuard(service, "--upstream", app.url, "--audience", "api://orders", "--allow-identity", me.principalId);
  const report = await examine(service, `${guard.endpoint}/api/webpubsub/hubs/orders/`, "--from-service", "--audience", "api://orders", "--data", service.data);
  assert.deepEqual(report.accepted, []);
  assert.deepEqual(names(report.refused), attacks);
  assert.deepEqual(names(report.refused.filter((f) => !f.conclusive)), ["expired"]);
  assert.equal(report.code, 0);
  // What did reach it: the good token's trial, and the first of the two equal events.
  assert.equal(app.events.length, 2);
  assert.equal(await guard.stop(), 0);
  await app.stop();
});

test("events of the service reach the application through the guard, which tells it who calls", async () => {
  const me = await service.json("identity", "show");
  const app = await application();
  const guard = await startGuard(service, "--upstream", app.url, "--issuer", service.issuer, "--ca", service.caFile, "--audience", "api://orders");
  await service.cli("hub", "set", "orders", "--handler-url", `${guard.endpoint}/api/webpubsub/hubs/{hub}/`, "--user-events", "*", "--auth", "managed-identity", "--audience", "api://orders");
  await service.talk("hello", "connect", "--hub", "orders", "--user", "alice", "--count", "1");
  assert.deepEqual(app.events, ["hello"]);
  for (const r of app.requests) {
    assert.equal(r.headers["x-ms-client-principal-id"], me.principalId);
    const principal = JSON.parse(Buffer.from(r.headers["x-ms-client-principal"], "base64").toString());
    assert.equal(principal.auth_typ, "aad");
    assert.ok(principal.claims.some((c) => c.typ === "aud" && c.val === "api://orders"));
  }
  await guard.stop();
  await app.stop();
});
