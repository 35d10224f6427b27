// The Node example (examples/express), as a process of its own: it handles the service's events, and the doctor finds
// nothing but what Express leaves open.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { eventually, examine, start } from "../harness.js";

const dir = resolve(import.meta.dirname, "../.tmp/express"); // where it finds the packages of these tests
let service;
before(async () => {
  service = await start();
  mkdirSync(dir, { recursive: true });
  for (const file of ["verify.js", "server.js", "package.json"]) cpSync(resolve(import.meta.dirname, "../../../examples/express", file), join(dir, file));
});
after(async () => { rmSync(dir, { recursive: true, force: true }); await service?.stop(); });

/** example starts the server and resolves to its URL. */
async function example(env) {
  const child = spawn(process.execPath, ["server.js"], {
    cwd: dir, stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, NODE_EXTRA_CA_CERTS: service.caFile, READY: join(service.data, "ready.json"), PORT: "0", ...env },
  });
  let url = "";
  child.stdout.on("data", (b) => (url += b));
  await eventually("the example listens", () => {
    if (child.exitCode !== null) throw new Error(`the example ended with ${child.exitCode}`);
    return url.includes("\n");
  });
  return { url: url.trim(), async stop() { child.kill("SIGTERM"); if (child.exitCode === null) await once(child, "exit"); } };
}

test("the Node example answers events of version 1 and 2, and lets nothing else in", async () => {
  await service.cli("identity", "assign", "--system");
  const me = await service.json("identity", "show");
  await service.json("app", "create", "one", "--identifier-uri", "api://one");
  const two = await service.json("app", "create", "two", "--identifier-uri", "api://two", "--token-version", "2");
  for (const { resource, audience } of [{ resource: "api://one", audience: "api://one" }, { resource: "api://two", audience: two.appId }]) {
    const app = await example({ AUDIENCE: audience, CALLERS: me.principalId });
    await service.cli("hub", "set", "chat", "--handler-url", app.url, "--user-events", "*", "--auth", "managed-identity", "--audience", resource);
    assert.equal((await service.talk("hello", "connect", "--hub", "chat", "--user", "alice", "--count", "1")).trim(), "alice said hello");
    const report = await examine(service, app.url, "--from-service", "--audience", resource, "--data", service.data);
    // Express calls the application again for a repeated event; whoever minds that puts tabard guard in front.
    assert.deepEqual(report.accepted.map((f) => f.attack), ["replayed_id"], JSON.stringify(report));
    // 0: what is too large is refused unread, so the handler may hang up before its answer is seen.
    assert.deepEqual(report.refused.filter((f) => ![401, 403, 413].includes(f.status) && !(f.attack === "oversize" && f.status === 0)), []);
    await app.stop();
  }
});
