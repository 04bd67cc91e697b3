/** Chooses the ports: the app keeps its own, the sidecar takes others that nothing uses. */
import type { FlyToml, Service } from '../doctor/fly-toml.ts';

export interface Ports {
  /** Where the app listens today, and stays. */
  readonly app: number;
  /** Where Fly Proxy goes instead. */
  readonly public: number;
  readonly peer: number;
  readonly admin: number;
}

const PUBLIC_PORTS = [8080, 8000, 8888, 8090, 3000, 4000];
const DEFAULT_PEER_PORT = 8081;
const DEFAULT_ADMIN_PORT = 9091;

export function choosePorts(toml: FlyToml, app: number, exposed: readonly number[]): Ports {
  const used = new Set([app, ...exposed, ...portsIn(toml)]);
  const free = (candidates: readonly number[]): number => {
    const found = candidates.find((port) => !used.has(port)) ?? 0;
    used.add(found);
    return found;
  };
  return {
    app,
    // The own ones first: the public port may be any.
    peer: free(upwardsFrom(DEFAULT_PEER_PORT)),
    admin: free(upwardsFrom(DEFAULT_ADMIN_PORT)),
    public: free([...PUBLIC_PORTS, ...upwardsFrom(10_000)]),
  };
}

const CANDIDATES = 1_000;

function upwardsFrom(port: number): number[] {
  return Array.from({ length: CANDIDATES }, (_, index) => port + index);
}

function portsIn({ services, checks, metrics }: FlyToml): number[] {
  const of = [...checks, ...metrics].map(({ port }) => port);
  return [...of, ...services.map(({ internalPort }) => internalPort)].flatMap((port) => port ?? []);
}

/** The services whose requests the sidecar should get: those on the port of the first with the http handler. */
export function httpServices({ services }: FlyToml): readonly Service[] {
  const first = services.find(({ handlesHttp }) => handlesHttp);
  return services.filter(
    ({ handlesHttp, internalPort }) => handlesHttp && internalPort === first?.internalPort,
  );
}

/** Other services with the http handler: their requests do not reach the sidecar. */
export function otherHttpServices(toml: FlyToml): readonly Service[] {
  const chosen = httpServices(toml);
  return toml.services.filter((service) => service.handlesHttp && !chosen.includes(service));
}
