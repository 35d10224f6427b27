// Preloaded into programs of the tests: names below localhost are this machine, as most systems' resolvers have it and
// some minimal ones have not.
import { createRequire } from "node:module";

const dns = createRequire(import.meta.url)("node:dns");
const lookup = dns.lookup;
dns.lookup = (host, ...rest) => lookup(host.endsWith(".localhost") ? "127.0.0.1" : host, ...rest);
