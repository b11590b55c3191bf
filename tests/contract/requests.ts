// The simplest requests, with the types that openapi-typescript makes of mer's description with its defaults. It need only
// compile: see `run`.
import createClient from "openapi-fetch";
import type { paths, webhooks } from "./api";

const mer = createClient<paths>({ baseUrl: "http://127.0.0.1:8888" });
const id = { params: { path: { id: "host-in_0123456789abcdef" } } };

export async function simplestRequests() {
  await mer.POST("/receive_event/{type}", { params: { path: { type: "a" } }, body: { n: 1 } });
  await mer.POST("/v1/events/{key}", { params: { path: { key: "a" } }, body: { n: 1 } });
  const events = [{ event: "a", urls_to_register: [{ url: "http://host/in" }] }];
  await mer.POST("/register_for_events/", { body: { events_to_register: events } });
  await mer.PUT("/v1/subscriptions", { body: { url: "http://host/in", events: [{ type: "a" }] } });
  await mer.PATCH("/v1/subscriptions/{id}", { ...id, body: { delivery: { mode: "batched" } } });
  await mer.POST("/v1/subscriptions/{id}/replay", { ...id, body: { from: "20200101000000.0" } });
  await mer.POST("/v1/subscriptions/{id}/rotate-secret", { ...id, body: {} });
  const { data: page } = await mer.GET("/v1/subscriptions", {});
  const { data: log } = await mer.GET("/v1/log", {});
  const positions: (number | undefined)[] = [page?.subscriptions[0].status.position, log?.last_sequence];
  return positions;
}

export type Headers = NonNullable<webhooks["delivery"]["post"]["parameters"]["header"]>;
export const previous: Headers["ce-previoussequence"] = "00000000000000000012";
