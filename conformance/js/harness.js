// Gives tests the running binary, and the clients and small servers they need. Everything runs against the real
// service; nothing of it is replaced.
import { execFile, spawn } from "node:child_process";
import { generateKeyPairSync, sign } from "node:crypto";
import { once } from "node:events";
import express from "express";
import { binary, serve } from "./binary.js";

export { eventually, serve, start, startGuard } from "./binary.js";

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

/** upstream is an express server that remembers every request before the middleware under test answers it. */
export async function upstream(...middleware) {
  const requests = [];
  const app = express();
  app.use((req, _res, next) => { requests.push({ method: req.method, url: req.url, headers: req.headers, raw: req.rawHeaders }); next(); });
  for (const m of middleware) app.use(m);
  return { ...(await serve(app)), requests, app };
}
