// Starts the built binary on free ports. It needs nothing but Node, so that the browser tests, which have packages of
// their own, begin with it too.
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

export const binary = resolve(import.meta.dirname, "../../bin/tabard");

/** run starts the binary with a folder of its own and resolves to what its ready file says, once it is there. */
async function run(args) {
  const data = mkdtempSync(join(tmpdir(), "tabard-"));
  const readyFile = join(data, "ready");
  const child = spawn(binary, [...args(data), "--ready-file", readyFile], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (b) => (output += b));
  child.stderr.on("data", (b) => (output += b));
  await eventually("the binary is ready", () => {
    if (child.exitCode !== null) throw new Error(`tabard ended: ${output}`);
    return existsSync(readyFile);
  }, 30_000);
  return {
    ...JSON.parse(readFileSync(readyFile, "utf8")),
    data,
    output: () => output,
    async stop() {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
      rmSync(data, { recursive: true, force: true });
      return child.exitCode;
    },
  };
}

/** start runs `tabard dev` with its own data and resolves once every listener answers. */
export async function start(...flags) {
  const ready = await run((data) => ["dev", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", ...flags]);
  const env = { ...process.env, TABARD_ADMIN_URL: ready.adminUrl, TABARD_ADMIN_TOKEN: ready.adminToken };
  return {
    ...ready,
    env,
    /** cli runs a verb of the same binary against this service and returns its standard output. */
    async cli(...args) {
      const { stdout } = await promisify(execFile)(binary, args, { env });
      return stdout;
    },
    /** talk is cli with a line on standard input. */
    talk(line, ...args) {
      return new Promise((ok, fail) => {
        const process = execFile(binary, args, { env }, (error, stdout) => (error ? fail(error) : ok(stdout)));
        process.stdin.end(`${line}\n`);
      });
    },
    async json(...args) {
      return JSON.parse(await this.cli(...args, "--json"));
    },
    /** admin calls a control-plane route with the admin token. */
    async admin(method, path, body) {
      const answer = await fetch(ready.adminUrl + path, {
        method,
        headers: { authorization: `Bearer ${ready.adminToken}`, "content-type": "application/json" },
        body: body && JSON.stringify(body),
      });
      const text = await answer.text();
      if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
      return text ? JSON.parse(text) : undefined;
    },
  };
}

/** startGuard runs `tabard guard` with the service's issuer and resolves once it answers. */
export function startGuard(service, ...flags) {
  return run(() => ["guard", "--data", service.data, "--listen", "127.0.0.1:0", ...flags]);
}

/** eventually polls until check is truthy; its value is the result. */
export async function eventually(what, check, timeout = 10_000) {
  for (const end = Date.now() + timeout; ;) {
    const value = await check();
    if (value) return value;
    if (Date.now() > end) throw new Error(`gave up waiting until ${what}`);
    await new Promise((r) => setTimeout(r, 20));
  }
}

/** serve puts a request listener, or an express application, on a free loopback port. */
export async function serve(listener) {
  const server = createServer(listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    stop: () => new Promise((r) => { server.closeAllConnections(); server.close(r); }),
  };
}
