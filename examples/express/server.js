// An event handler with @azure/web-pubsub-express that trusts nobody. Start it with
//
//   NODE_EXTRA_CA_CERTS=.tabard/ca.pem READY=.tabard/ready.json AUDIENCE=api://my-handler node server.js
import { readFileSync } from "node:fs";
import { WebPubSubEventHandler } from "@azure/web-pubsub-express";
import express from "express";
import { verify } from "./verify.js";

const { READY = ".tabard/ready.json", AUDIENCE = "api://my-handler", CALLERS, HUB = "chat", PORT = "7070" } = process.env;
const service = JSON.parse(readFileSync(READY, "utf8"));

const handler = new WebPubSubEventHandler(HUB, {
  path: "/eventhandler",
  handleUserEvent: (req, res) => res.success(`${req.context.userId} said ${req.data}`, "text"),
});

const app = express();
app.use(verify({ issuers: [service.issuer, service.issuerV2], audience: AUDIENCE, callers: CALLERS?.split(",") }));
app.use(handler.getMiddleware());
const server = app.listen(Number(PORT), "127.0.0.1", () => console.log(`http://127.0.0.1:${server.address().port}/eventhandler`));
