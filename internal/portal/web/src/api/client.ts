/** An ApiError is a refusal in the service's own words, whichever surface said it. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** The field of the request that is at fault, if the service names one. */
    readonly target?: string,
  ) {
    super(message);
  }
}

/** An Answer is a success, and what the service warns of all the same. */
export interface Answer<T> {
  body: T;
  warnings: string[];
}

export interface Request {
  query?: Record<string, string | number | undefined>;
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** The Client sends requests to the address that the page came from, with the caller's credential. */
export class Client {
  constructor(
    private readonly root: URL,
    private readonly token: string,
    /** Hears that the credential does not count any more, in the service's words. */
    private readonly onUnauthorized: (message: string) => void,
  ) {}

  /** send returns a success as it came, for those who read it as a stream. */
  async send(method: string, path: string, request: Request = {}): Promise<Response> {
    const url = new URL(path.replace(/^\//, ""), this.root);
    for (const [name, value] of Object.entries(request.query ?? {})) {
      if (value !== undefined && value !== "") url.searchParams.set(name, String(value));
    }
    const headers = new Headers({ authorization: `Bearer ${this.token}`, ...request.headers });
    if (request.body !== undefined && !headers.has("content-type")) headers.set("content-type", "application/json");
    let answer: Response;
    try {
      answer = await fetch(url, {
        method,
        headers,
        body: request.body === undefined ? undefined : encode(request.body, headers),
        signal: request.signal,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
      });
    } catch (cause) {
      if (request.signal?.aborted) throw cause;
      throw new ApiError(0, "Unreachable", "The service does not answer. It may be starting, or stopped.");
    }
    if (answer.ok) return answer;
    const error = await refusal(answer);
    if (answer.status === 401) this.onUnauthorized(error.message);
    throw error;
  }

  /** call sends a request and reads the answer's JSON, undefined if there is none. */
  async call<T>(method: string, path: string, request: Request = {}): Promise<Answer<T>> {
    const answer = await this.send(method, path, request);
    const text = await answer.text();
    return {
      body: (text === "" ? undefined : JSON.parse(text)) as T,
      warnings: splitWarnings(answer.headers.get("x-tabard-warning")),
    };
  }

  /** get is call for what is only read. */
  async get<T>(path: string, query?: Request["query"], signal?: AbortSignal): Promise<T> {
    return (await this.call<T>("GET", path, { query, signal })).body;
  }
}

function encode(body: unknown, headers: Headers): string {
  return headers.get("content-type")?.includes("json") ? JSON.stringify(body) : String(body);
}

/** Browsers join repeated headers with ", "; each warning ends in its reason code in parentheses, or is the last. */
function splitWarnings(joined: string | null): string[] {
  return joined === null ? [] : joined.split(/(?<=\([a-z_]+\)), /);
}

/** refusal reads the envelopes of ARM, Graph and Key Vault ({error: …}) and that of the data plane ({code, message}). */
async function refusal(answer: Response): Promise<ApiError> {
  const fallback = `The service answered ${answer.status} ${answer.statusText}.`;
  const text = await answer.text();
  try {
    const parsed: unknown = JSON.parse(text);
    const envelope = parsed as { error?: Envelope } & Envelope;
    const error = envelope.error ?? envelope;
    const details = (error.details ?? []).map((d) => d.message).filter((m) => m !== undefined && m !== error.message);
    const message = [error.message, ...details].filter(Boolean).join(" ");
    return new ApiError(answer.status, error.code ?? "", message || fallback, error.target ?? undefined);
  } catch {
    return new ApiError(answer.status, "", text.trim() || fallback);
  }
}

interface Envelope {
  code?: string;
  message?: string;
  target?: string | null;
  details?: { message?: string }[] | null;
}
