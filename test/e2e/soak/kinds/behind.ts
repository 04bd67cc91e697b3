/** A request behind one that ends its connection: it gets no response, and reaches no app. */
export const BEHIND = 'GET /malformed HTTP/1.1\r\nHost: soak.test\r\nx-soak-id: behind\r\n\r\n';
