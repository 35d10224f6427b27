import { expect, test } from "vitest";
import { clientUrl, names } from "./connect";

test("a client's address has the scheme that the page may use", () => {
  expect(clientUrl("http://127.0.0.1:8080", "chat", "t.o.k", false)).toBe("ws://127.0.0.1:8080/client/hubs/chat?access_token=t.o.k");
  expect(clientUrl("http://127.0.0.1:8080", "chat", "t", true)).toBe("wss://127.0.0.1:8080/client/hubs/chat?access_token=t");
  expect(clientUrl("https://wps.example.com", "a b", "t", false)).toBe("wss://wps.example.com/client/hubs/a%20b?access_token=t");
});

test("names are split at commas", () => {
  expect(names(" a, b ,,c")).toEqual(["a", "b", "c"]);
  expect(names("")).toEqual([]);
});
