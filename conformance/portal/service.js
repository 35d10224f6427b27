// The built binary as the portal's tests need it, and the event handlers that journeys end at: all of them real
// processes or servers, verifying real tokens.
import { eventually, serve, start, startGuard } from "../js/binary.js";

/** startService runs a fresh `tabard dev`. */
export async function startService(...flags) {
  const service = await start(...flags);
  service.env.TABARD_CA = service.caFile;
  /** link is the one that `tabard dev` prints, with the token in its fragment. */
  service.link = await eventually("the link is printed", () => /http:\/\/\S+\/portal\/#token=\S+/.exec(service.output())?.[0]);
  return service;
}

/** startUpstream is an application: it remembers what reached it and answers a user event with who said what. */
export async function startUpstream() {
  const events = [];
  const server = await serve((req, res) => {
    const chunks = [];
    req.on("data", (c) => chunks.push(c));
    req.on("end", () => {
      if (req.method === "OPTIONS") return res.writeHead(200, { "webhook-allowed-origin": "*" }).end();
      events.push({ url: req.url, headers: req.headers, body: Buffer.concat(chunks).toString() });
      res.writeHead(200, { "content-type": "text/plain" }).end(`${req.headers["ce-userid"] ?? "somebody"} said ${Buffer.concat(chunks)}`);
    });
  });
  return { ...server, events };
}

/** startGuarded is an application behind `tabard guard`, which verifies every token for the audience and callers. */
export async function startGuarded(service, audience, ...flags) {
  const upstream = await startUpstream();
  const guard = await startGuard(service, "--upstream", upstream.url, "--audience", audience, ...flags);
  return {
    url: guard.endpoint,
    events: upstream.events,
    async stop() {
      await guard.stop();
      await upstream.stop();
    },
  };
}
