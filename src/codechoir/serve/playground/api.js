// The server's API: models, streamed completions, and its errors in words. Knows nothing of the page.

const KEY = "codechoir.key"; // in sessionStorage: gone when the tab is closed

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => sessionStorage.setItem(KEY, value),
};

/** An answer that is none, as a title and what to do. `status` is 0 where no answer came. */
export class ApiError extends Error {
  constructor(status, message, retryAfter = 0) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter; // seconds
    [this.title, this.advice] = inWords(status, message, retryAfter);
  }
}

function inWords(status, message, retryAfter) {
  const told = message && `The server says: ${message}`;
  if (status === 0) return ["No answer from the server", "See whether codechoir serve still runs and the network is up, then try again."];
  if (status === 401 || status === 403) return ["The server asks for an API key", "Enter a key above. The owner of the server has it."];
  if (status === 404) return ["The server does not know this model", `Reload the page to see what it serves. ${told}`];
  if (status === 413) return ["The code is too long for this server", `Take some of it away before the cursor. ${told}`];
  if (status === 429) return ["The server is busy", retryAfter ? `Try again in ${retryAfter} s.` : "Try again in a moment."];
  if (status === 503) return ["The server is about to stop or not ready", "Try again in a moment."];
  if (status === 504) return ["The server took too long", "Ask for fewer tokens in Settings, or try again when it is less busy."];
  if (status >= 500) return ["The server met an error", `Try again; if it stays, its log tells more. ${told}`];
  return ["The server refused the request", message || `Status ${status}.`];
}

function headers() {
  return { "Content-Type": "application/json", ...(key.get() && { Authorization: `Bearer ${key.get()}` }) };
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, { ...options, headers: headers(), cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, error.message);
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => ({}));
  const retryAfter = Number.parseInt(response.headers.get("Retry-After") ?? "", 10) || 0;
  throw new ApiError(response.status, body.error?.message ?? "", retryAfter);
}

/** The models with their routes: [{name, experts, context, infills, traces, routes: [{id, routing}]}]. */
export async function listModels() {
  const { data } = await (await ask("v1/models")).json();
  const ids = new Set(data.map((entry) => entry.id));
  const base = (id) => {
    for (let end = id.indexOf("/"); end >= 0; end = id.indexOf("/", end + 1)) if (ids.has(id.slice(0, end))) return id.slice(0, end);
    return id;
  };
  const models = new Map();
  for (const entry of data) {
    const name = base(entry.id);
    if (!models.has(name)) {
      models.set(name, {
        name, experts: entry.x_experts ?? [], infills: entry.x_infill ?? false, traces: entry.x_traces ?? false, routes: [],
      });
    }
    const { routes } = models.get(name);
    const routing = entry.x_routing ?? null;
    if (!routes.some((route) => route.routing === routing)) routes.push({ id: entry.id, routing });
  }
  return [...models.values()];
}

/** The chunks of a streamed completion. Raises ApiError; an aborted `signal` raises AbortError. */
export async function* complete(request, signal) {
  const response = await ask("v1/completions", { method: "POST", body: JSON.stringify(request), signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new ApiError(0, "the stream ended early");
      pending += value;
      const lines = pending.split("\n");
      pending = lines.pop();
      for (const line of lines) {
        if (!line.startsWith("data:")) continue;
        const data = line.slice("data:".length).trim();
        if (data === "[DONE]") return;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new ApiError(500, chunk.error.message ?? "");
        yield chunk;
      }
    }
  } catch (error) {
    if (error.name === "AbortError" || error instanceof ApiError) throw error;
    throw new ApiError(0, error.message);
  } finally {
    reader.cancel().catch(() => {}); // whoever stops reading frees the server's slot
  }
}

/** The shell command that sends the same request. The key stays in an environment variable. */
export function asCurl(request, address, withKey) {
  const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  const parts = [`curl -N ${quoted(new URL("v1/completions", address).href)}`, "-H 'Content-Type: application/json'"];
  if (withKey) parts.push('-H "Authorization: Bearer $CODECHOIR_API_KEY"');
  return [...parts, `-d ${quoted(JSON.stringify(request))}`].join(" \\\n  ");
}
