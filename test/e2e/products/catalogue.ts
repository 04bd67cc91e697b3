/** The products that are tested, one row each. Their servers run in one process: see `app.ts`. */
import { HTTP_PRODUCTS } from './catalogue-http.ts';
import { SOCKET_PRODUCTS } from './catalogue-sockets.ts';
import type { Product } from './product.ts';

export const PRODUCTS: readonly Product[] = [...SOCKET_PRODUCTS, ...HTTP_PRODUCTS];

export function productOf(name: string): Product {
  const product = PRODUCTS.find((each) => each.name === name);
  if (!product) throw new Error(`no such product: ${name}`);
  return product;
}
