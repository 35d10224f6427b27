// The protobuf subprotocols as protocols of @azure/web-pubsub-client, which carries them over its own sockets, acks,
// recovery, streams and invocations. The SDK for JavaScript brings none of its own.
import { join } from "node:path";
import protobuf from "protobufjs";

const schema = protobuf.loadSync(join(import.meta.dirname, "../../internal/subprotocol/webpubsubpb/webpubsub.proto"));
const Upstream = schema.lookupType("azure.webpubsub.UpstreamMessage");
const Downstream = schema.lookupType("azure.webpubsub.DownstreamMessage");
const Any = schema.lookupType("google.protobuf.Any");

const bytes = (b) => b.buffer.slice(b.byteOffset, b.byteOffset + b.byteLength);

function messageData(data, dataType) {
  switch (dataType) {
    case "text": return { textData: data };
    case "json": return { jsonData: JSON.stringify(data) };
    case "binary": return { binaryData: new Uint8Array(data) };
    case "protobuf": return { protobufData: Any.decode(new Uint8Array(data)) };
  }
}

function payload(d) {
  if (d?.jsonData !== undefined) return { dataType: "json", data: JSON.parse(d.jsonData) };
  if (d?.textData !== undefined) return { dataType: "text", data: d.textData };
  if (d?.binaryData !== undefined) return { dataType: "binary", data: bytes(d.binaryData) };
  if (d?.protobufData !== undefined) return { dataType: "protobuf", data: bytes(Any.encode(d.protobufData).finish()) };
  return {};
}

const write = {
  joinGroup: (m) => ({ joinGroupMessage: { group: m.group, ackId: m.ackId } }),
  leaveGroup: (m) => ({ leaveGroupMessage: { group: m.group, ackId: m.ackId } }),
  sendToGroup: (m) => ({
    sendToGroupMessage: {
      group: m.group, ackId: m.ackId, noEcho: m.noEcho, data: messageData(m.data, m.dataType),
      stream: m.stream && { streamId: m.stream.streamId, idleTimeoutMs: m.stream.idleTimeoutInMs },
    },
  }),
  sendEvent: (m) => ({ eventMessage: { event: m.event, ackId: m.ackId, data: messageData(m.data, m.dataType) } }),
  sequenceAck: (m) => ({ sequenceAckMessage: { sequenceId: m.sequenceId } }),
  ping: () => ({ pingMessage: {} }),
  invoke: (m) => ({ invokeEventMessage: { event: m.event, invocationId: m.invocationId, data: messageData(m.data, m.dataType) } }),
  cancelInvocation: (m) => ({ cancelInvocationMessage: { invocationId: m.invocationId } }),
  streamData: (m) => ({ streamDataMessage: { streamId: m.streamId, streamSequenceId: m.streamSequenceId, data: messageData(m.data, m.dataType) } }),
  streamEnd: (m) => ({ streamEndMessage: { streamId: m.streamId, error: m.error && { message: m.error.message, userErrorCode: m.error.userErrorCode } } }),
};

const read = {
  ackMessage: (m) => ({ kind: "ack", ackId: m.ackId, success: m.success, error: m.error }),
  pongMessage: () => ({ kind: "pong" }),
  systemMessage: (m) => m.connectedMessage
    ? { kind: "connected", ...m.connectedMessage }
    : { kind: "disconnected", message: m.disconnectedMessage.reason },
  dataMessage: (m) => ({
    kind: m.from === "group" ? "groupData" : "serverData", group: m.group, sequenceId: m.sequenceId, stream: m.stream, ...payload(m.data),
  }),
  invokeResponseMessage: (m) => ({ kind: "invokeResponse", invocationId: m.invocationId, success: m.success, error: m.error, ...payload(m.data) }),
  streamAckMessage: (m) => ({ kind: "streamAck", ...m }),
  streamNackMessage: (m) => ({ kind: "streamNack", ...m }),
  streamClosedMessage: (m) => ({ kind: "streamClosed", ...m }),
};

const protocol = (name, isReliableSubProtocol) => () => ({
  name,
  isReliableSubProtocol,
  parseMessages(input) {
    const m = Downstream.decode(new Uint8Array(input));
    // Explicitly absent fields stay absent; plain ones have their zero.
    const plain = Downstream.toObject(m, { longs: Number, arrays: true, objects: false, oneofs: true, defaults: false });
    const kind = plain.message;
    return read[kind](withZeros(kind, plain[kind]));
  },
  writeMessage(m) {
    return bytes(Upstream.encode(Upstream.fromObject(write[m.kind](m))).finish());
  },
});

// withZeros adds what proto3 leaves out because it is zero.
function withZeros(kind, m) {
  if (kind === "ackMessage" || kind === "invokeResponseMessage") return { success: false, ackId: 0, ...m };
  return m;
}

export const WebPubSubProtobufProtocol = protocol("protobuf.webpubsub.azure.v1", false);
export const WebPubSubProtobufReliableProtocol = protocol("protobuf.reliable.webpubsub.azure.v1", true);
