import { useEffect, useRef, useState } from "react";

/** A Frame is one WebSocket message as it was, or what happened to the connection. */
export interface Frame {
  id: number;
  at: Date;
  direction: "sent" | "received" | "note";
  text: string;
}

const maxFrames = 500;

export interface Socket {
  state: "closed" | "connecting" | "open";
  frames: Frame[];
  open(url: string, subprotocol: string): void;
  send(text: string): void;
  close(): void;
  clear(): void;
}

/** useSocket is one WebSocket client; it is closed with the component. */
export function useSocket(): Socket {
  const [state, setState] = useState<Socket["state"]>("closed");
  const [frames, setFrames] = useState<Frame[]>([]);
  const socket = useRef<WebSocket | null>(null);
  const count = useRef(0);
  useEffect(() => () => socket.current?.close(), []);
  const note = (direction: Frame["direction"], text: string) => {
    const frame = { id: ++count.current, at: new Date(), direction, text };
    setFrames((old) => [...old, frame].slice(-maxFrames));
  };
  return {
    state,
    frames,
    clear: () => setFrames([]),
    open: (url, subprotocol) => {
      const s = new WebSocket(url, subprotocol === "" ? [] : [subprotocol]);
      socket.current = s;
      setState("connecting");
      s.onopen = () => {
        setState("open");
        note("note", `Connected${subprotocol === "" ? "" : ` with ${subprotocol}`}`);
      };
      s.onmessage = (e) => {
        note("received", typeof e.data === "string" ? e.data : "(binary)");
      };
      s.onclose = (e) => {
        setState("closed");
        note("note", `Closed with ${e.code}${e.reason === "" ? "" : `: ${e.reason}`}`);
      };
    },
    send: (text) => {
      socket.current?.send(text);
      note("sent", text);
    },
    close: () => socket.current?.close(1000),
  };
}
