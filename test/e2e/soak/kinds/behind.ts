/** A request behind one that ends its connection: nobody may answer it, and no app may see it. */
export const BEHIND = 'GET /malformed HTTP/1.1\r\nHost: soak.test\r\nx-soak-id: behind\r\n\r\n';
