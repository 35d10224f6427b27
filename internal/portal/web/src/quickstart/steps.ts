import { type Application, type Hub, type Instance, type List, type Live, version } from "../api/arm";
import type { Client } from "../api/client";
import type { TraceRecord } from "../api/trace";
import { registerApplication } from "../applications/register";
import { assign } from "../identity/assign";
import { frameFor } from "../playground/Actions";
import { generateUrl, pubsub } from "../playground/connect";

export interface SampleHandler {
  url: string;
  audience: string;
}

/** An Outcome is what the steps so far found out. */
export interface Outcome {
  reply?: string;
  connectionId?: string;
  record?: TraceRecord;
}

export interface Step {
  title: string;
  about: string;
  run(api: Client, found: Outcome): Promise<Outcome | void>;
}

const hub = "quickstart";
const query = { "api-version": version.webPubSub };

/** steps lead to an event with a verified identity; each may be done again without harm. */
export function steps(instance: Instance, sample: SampleHandler): Step[] {
  return [
    {
      title: "Identity.",
      about: "Switch the system-assigned identity on, unless the instance has one.",
      run: async (api) => {
        const now = await api.get<Instance>(instance.id, query);
        if (now.identity.type === "None") await assign(api, instance, { type: "SystemAssigned" });
      },
    },
    {
      title: "Application.",
      about: `Register one with the ID URI ${sample.audience}, which represents the handler.`,
      run: async (api) => {
        const { value } = await api.get<List<Application>>("/v1.0/applications");
        if (!value.some((a) => a.identifierUris.includes(sample.audience))) await registerApplication(api, "sample-handler", sample.audience);
      },
    },
    {
      title: "Event handler.",
      about: `Have hub ${hub} send its events there, with a token for that audience.`,
      run: async (api) => {
        const auth = { type: "ManagedIdentity", managedIdentity: { resource: sample.audience } };
        await api.call<Hub>("PUT", `${instance.id}/hubs/${hub}`, {
          query,
          body: { properties: { eventHandlers: [{ urlTemplate: sample.url, userEventPattern: "*", systemEvents: [], auth }] } },
        });
      },
    },
    {
      title: "Event.",
      about: "Connect a client in this browser, send “hello”, and wait for the handler's answer.",
      run: async (api) => {
        const { endpoint } = await api.get<Live>(`${instance.id}/live`, query);
        return sendHello(await generateUrl(api, instance.name, endpoint, { hub, userId: "you", groups: "", subprotocol: pubsub, mayAll: false }));
      },
    },
    {
      title: "Trace.",
      about: "Look up what the service recorded of it.",
      run: async (api, found) => {
        const { value } = await api.get<List<TraceRecord>>(`${instance.id}/trace`, { ...query, kind: "delivery", connectionId: found.connectionId, last: 1 });
        return { record: value.at(-1) };
      },
    },
  ];
}

const patience = 20_000; // milliseconds

/** sendHello is a client that sends one event and resolves to its answer. A failed event says why in its ack. */
function sendHello(url: string): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url, pubsub);
    let connectionId: string | undefined;
    const fail = (why: string) => {
      clearTimeout(timer);
      socket.close();
      reject(new Error(why));
    };
    const timer = setTimeout(() => fail("The handler did not answer in time."), patience);
    socket.onclose = (e) => fail(`The connection was closed with ${e.code}${e.reason && `: ${e.reason}`}.`);
    socket.onmessage = (e) => {
      const message = JSON.parse(String(e.data)) as { type: string; event?: string; connectionId?: string; from?: string; data?: unknown; success?: boolean; error?: { name: string; message: string } };
      if (message.type === "system" && message.event === "connected") {
        connectionId = message.connectionId;
        socket.send(frameFor("event", "hello", "hello", 1));
      }
      if (message.type === "ack" && message.success === false) fail(`${message.error?.name ?? "The event failed"}: ${message.error?.message ?? ""}`);
      if (message.type === "message" && message.from === "server") {
        clearTimeout(timer);
        socket.onclose = null;
        socket.close(1000);
        resolve({ reply: String(message.data), connectionId });
      }
    };
  });
}
