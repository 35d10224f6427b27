/** A Sample is a piece of code that works with the instance at hand. */
export interface Sample {
  name: string;
  about: string;
  code: string;
}

export function samples(endpoint: string, instance: string): Sample[] {
  return [
    {
      name: "Command line",
      about: "The same steps as above, typed.",
      code: `tabard identity assign --system --instance ${instance}
tabard app create my-handler --identifier-uri api://my-handler
tabard hub set chat --instance ${instance} --handler-url http://127.0.0.1:7070/eventhandler \\
  --user-events '*' --auth managed-identity --audience api://my-handler
tabard connect --instance ${instance} --hub chat --user me`,
    },
    {
      name: "Client (JavaScript)",
      about: "@azure/web-pubsub-client, unmodified. The client URL comes from your server, or from the Keys page.",
      code: `import { WebPubSubClient } from "@azure/web-pubsub-client";

const client = new WebPubSubClient(clientUrl);
client.on("server-message", (e) => console.log(e.message.data));
await client.start();
await client.joinGroup("group1");
await client.sendToGroup("group1", "hello", "text");
await client.sendEvent("message", "hello", "text");`,
    },
    {
      name: "Server (JavaScript)",
      about: "@azure/web-pubsub, unmodified. The connection string is on the Keys page.",
      code: `import { WebPubSubServiceClient } from "@azure/web-pubsub";

const service = new WebPubSubServiceClient(process.env.CONNECTION_STRING, "chat");
await service.sendToAll("hello", { contentType: "text/plain" });
const { url } = await service.getClientAccessToken({ userId: "me", roles: ["webpubsub.joinLeaveGroup"] });`,
    },
    {
      name: "Event handler (Go)",
      about: "Verifies every event: issuer, audience, signature and caller.",
      code: `g, err := guard.New(guard.Trust{
	Issuers:   []string{issuer, issuerV2}, // from the ready file
	Audiences: []string{"api://my-handler"},
	CAFile:    ".tabard/ca.pem",
}, guard.Options{})
http.Handle("/eventhandler", g.Events(guard.Handlers{
	User: func(ctx context.Context, e *guard.Event) (guard.Reply, error) {
		return guard.Textf("%s said %s", e.UserID, e.Text()), nil
	},
}))`,
    },
    {
      name: "REST",
      about: "Publish with a token that you sign, or with one of a principal that has the role Web PubSub Service Owner.",
      code: `curl -X POST "${endpoint}/api/hubs/chat/:send?api-version=2024-12-01" \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: text/plain" --data hello`,
    },
  ];
}
