// Starts the built binary on free ports, and the event handlers that journeys end at: all of them real processes or
// servers, verifying real tokens.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

const binary = resolve(import.meta.dirname, "../../bin/tabard");

async function eventually(what, check, timeout = 30_000) {
  for (const end = Date.now() + timeout; ;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`gave up waiting until ${what}`);
    await new Promise((r) => setTimeout(r, 25));
  }
}

/** run starts the binary and resolves to what its ready file says. */
async function run(what, args, env = {}) {
  const dir = mkdtempSync(join(tmpdir(), "tabard-portal-"));
  const readyFile = join(dir, "ready");
  const child = spawn(binary, [...args.map((a) => a.replace("DIR", dir)), "--ready-file", readyFile], { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
  let output = "";
  child.stdout.on("data", (b) => (output += b));
  child.stderr.on("data", (b) => (output += b));
  await eventually(`${what} is ready`, () => {
    if (child.exitCode !== null) throw new Error(`${what} ended: ${output}`);
    return existsSync(readyFile);
  });
  return {
    ...JSON.parse(readFileSync(readyFile, "utf8")),
    data: dir,
    output: () => output,
    async stop() {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

/** startService runs a fresh `tabard dev`. */
export async function startService(...flags) {
  const service = await run("tabard", ["dev", "--data", "DIR/data", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", ...flags]);
  const link = () => /http:\/\/\S+\/portal\/#token=\S+/.exec(service.output())?.[0];
  return {
    ...service,
    /** link is the one that `tabard dev` prints, with the token in its fragment. */
    link: await eventually("the link is printed", link),
    /** admin calls the control plane with the admin token. */
    async admin(method, path, body, token = service.adminToken) {
      const answer = await fetch(service.adminUrl + path, { method, headers: { authorization: `Bearer ${token}`, "content-type": "application/json" }, body: body && JSON.stringify(body) });
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
      return text ? JSON.parse(text) : undefined;
    },
    instance: `/subscriptions/${service.subscriptionId}/resourceGroups/default/providers/Microsoft.SignalRService/webPubSub/default`,
    async cli(...args) {
      const { stdout } = await promisify(execFile)(binary, args, { env: { ...process.env, TABARD_ADMIN_URL: service.adminUrl, TABARD_ADMIN_TOKEN: service.adminToken, TABARD_CA: service.caFile } });
      return stdout;
    },
  };
}

/** startUpstream is an application: it remembers what reached it and answers a user event with who said what. */
export async function startUpstream() {
  const events = [];
  const server = createServer((req, res) => {
    const chunks = [];
    req.on("data", (c) => chunks.push(c));
    req.on("end", () => {
      if (req.method === "OPTIONS") return res.writeHead(200, { "webhook-allowed-origin": "*" }).end();
      events.push({ url: req.url, headers: req.headers, body: Buffer.concat(chunks).toString() });
      res.writeHead(200, { "content-type": "text/plain" }).end(`${req.headers["ce-userid"] ?? "somebody"} said ${Buffer.concat(chunks)}`);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    events,
    stop: () => new Promise((done) => { server.closeAllConnections(); server.close(done); }),
  };
}

/** startGuarded is an application behind `tabard guard`, which verifies every token for the audience and callers. */
export async function startGuarded(service, audience, ...flags) {
  const upstream = await startUpstream();
  const guard = await run("tabard guard", ["guard", "--data", join(service.data, "data"), "--listen", "127.0.0.1:0", "--upstream", upstream.url, "--audience", audience, ...flags]);
  return {
    url: guard.endpoint,
    events: upstream.events,
    async stop() {
      await guard.stop();
      await upstream.stop();
    },
  };
}
