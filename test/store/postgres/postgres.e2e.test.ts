/** The contract, on a real server. */
import { after } from 'node:test';
import { skipUnlessFound } from '../../support/needed.ts';
import { neededForPostgres, startPostgresServer } from '../../support/postgres-server.ts';
import { storeContract, type OpenStore } from '../contract.ts';
import { agreesWithTheRules } from '../model.ts';
import { namespaceOf, openPostgres } from '../postgres-place.ts';

skipUnlessFound(neededForPostgres, (programs) => {
  const starting = startPostgresServer({ after }, { programs });
  const open: OpenStore = async (t, { clock, limits, place }) => {
    const url = (await starting).url();
    const namespace = `${namespaceOf(t)}-${place}`;
    return openPostgres(t, url, { clock, limits, namespace, serverTime: () => clock.now() });
  };
  storeContract('Postgres', open, { canShare: true });
  agreesWithTheRules('Postgres', open, { canShare: true });
});
