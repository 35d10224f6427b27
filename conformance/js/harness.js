// Starts the built binary on free ports, and gives tests the clients and small servers they need. Everything runs
// against the real service; nothing of it is replaced.
import { spawn, execFile } from "node:child_process";
import { createServer } from "node:http";
import { generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import express from "express";

const binary = resolve(import.meta.dirname, "../../bin/tabard");

/** start runs `tabard dev` with its own data and resolves once every listener answers. */
export async function start(...flags) {
  const data = mkdtempSync(join(tmpdir(), "tabard-"));
  const readyFile = join(data, "ready");
  const child = spawn(binary, ["dev", "--data", data, "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--ready-file", readyFile, ...flags],
    { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (b) => (output += b));
  child.stderr.on("data", (b) => (output += b));
  await eventually("the service is ready", () => {
    if (child.exitCode !== null) throw new Error(`tabard ended: ${output}`);
    return existsSync(readyFile);
  }, 20_000);
  const ready = JSON.parse(readFileSync(readyFile, "utf8"));
  const env = { ...process.env, TABARD_ADMIN_URL: ready.adminUrl, TABARD_ADMIN_TOKEN: ready.adminToken };
  return {
    ...ready,
    data,
    env,
    output: () => output,
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
    async stop() {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
      rmSync(data, { recursive: true, force: true });
      return child.exitCode;
    },
  };
}

/** program runs a module that prints one JSON object in a process of its own, with this environment and no other. */
export async function program(source, env = {}) {
  const child = spawn(process.execPath, ["--input-type=module", "-"], {
    cwd: import.meta.dirname, env: { PATH: process.env.PATH, ...env }, stdio: ["pipe", "pipe", "inherit"],
  });
  child.stdin.end(source);
  let output = "";
  child.stdout.on("data", (b) => (output += b));
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`the program ended with ${code}: ${output}`);
  return JSON.parse(output);
}

/** certificate makes a self-signed one with a fresh RSA key, both as PEM. Node reads certificates and makes none. */
export function certificate(name) {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const der = (tag, ...parts) => {
    const body = Buffer.concat(parts);
    const length = body.length < 128 ? [body.length] : body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 0xff];
    return Buffer.concat([Buffer.from([tag, ...length]), body]);
  };
  const sequence = (...parts) => der(0x30, ...parts);
  const sha256WithRSA = sequence(Buffer.from("06092a864886f70d01010b0500", "hex"));
  const subject = sequence(der(0x31, sequence(Buffer.from("0603550403", "hex"), der(0x0c, Buffer.from(name)))));
  const time = (year) => der(0x18, Buffer.from(`${year}0101000000Z`));
  const now = new Date().getUTCFullYear();
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))), der(0x02, Buffer.from([1])), sha256WithRSA, subject, sequence(time(now - 1), time(now + 2)), subject,
    publicKey.export({ type: "spki", format: "der" }),
  );
  const signed = sequence(body, sha256WithRSA, der(0x03, Buffer.from([0]), sign("sha256", body, privateKey)));
  return {
    certificate: `-----BEGIN CERTIFICATE-----\n${signed.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`,
    key: privateKey.export({ type: "pkcs8", format: "pem" }),
  };
}

/** startGuard runs `tabard guard` with the service's issuer and resolves once it answers. */
export async function startGuard(service, ...flags) {
  const dir = mkdtempSync(join(tmpdir(), "tabard-guard-"));
  const readyFile = join(dir, "ready");
  const child = spawn(binary, ["guard", "--data", service.data, "--listen", "127.0.0.1:0", "--ready-file", readyFile, ...flags], { stdio: ["ignore", "ignore", "pipe"] });
  let output = "";
  child.stderr.on("data", (b) => (output += b));
  await eventually("the guard is ready", () => {
    if (child.exitCode !== null) throw new Error(`tabard guard ended: ${output}`);
    return existsSync(readyFile);
  }, 20_000);
  return {
    ...JSON.parse(readFileSync(readyFile, "utf8")),
    async stop() {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
      rmSync(dir, { recursive: true, force: true });
      return child.exitCode;
    },
  };
}

/** examine runs `tabard doctor` with access to the service and returns its exit code, report and stderr. */
export function examine(service, ...args) {
  return new Promise((ok, fail) => execFile(binary, ["doctor", ...args, "--json"], { env: service.env }, (error, stdout, stderr) => {
    try {
      ok({ code: error?.code ?? 0, ...JSON.parse(stdout), stderr });
    } catch {
      fail(new Error(`${stdout}${stderr}`));
    }
  }));
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

/** serve puts an express application or a request listener on a free loopback port. */
export async function serve(listener) {
  const server = createServer(listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    stop: () => new Promise((r) => { server.closeAllConnections(); server.close(r); }),
  };
}

/** upstream is an express server that remembers every request before the middleware under test answers it. */
export async function upstream(...middleware) {
  const requests = [];
  const app = express();
  app.use((req, _res, next) => { requests.push({ method: req.method, url: req.url, headers: req.headers, raw: req.rawHeaders }); next(); });
  for (const m of middleware) app.use(m);
  return { ...(await serve(app)), requests, app };
}
