// Asks the service; a problem (RFC 9457) becomes an Error with its words.

export class Problem extends Error {
  constructor(status, told) {
    super(told.detail || told.title || `the service answered ${status}`);
    this.status = status;
  }
}

export const unreachable = new EventTarget();

export async function ask(method, path, { body, query, signal, headers = {} } = {}) {
  const url = new URL(`/api/v1${path}`, location.origin);
  for (const [name, value] of Object.entries(query || {})) {
    if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, value);
  }
  const raw = body instanceof Blob;
  const options = { method, signal, headers: { ...headers }, credentials: "same-origin" };
  if (body !== undefined) {
    options.body = raw ? body : JSON.stringify(body);
    options.headers["Content-Type"] = raw ? body.type || "application/octet-stream" : "application/json";
  }
  let answer;
  try {
    answer = await fetch(url, options);
  } catch (error) {
    if (error.name !== "AbortError") unreachable.dispatchEvent(new Event("lost"));
    throw error.name === "AbortError" ? error : new Problem(0, { detail: "the service does not answer" });
  }
  unreachable.dispatchEvent(new Event("found"));
  if (answer.ok) {
    if (answer.status === 204) return null;
    return (answer.headers.get("content-type") || "").includes("json") ? answer.json() : answer.blob();
  }
  let told = {};
  try { told = await answer.json(); } catch { /* not from the service itself */ }
  if (answer.status === 401 && path !== "/session") unreachable.dispatchEvent(new Event("token"));
  throw new Problem(answer.status, told);
}

export const get = (path, query, signal) => ask("GET", path, { query, signal });
