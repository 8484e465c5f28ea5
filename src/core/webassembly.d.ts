/**
 * The one class of WebAssembly that `page-memory.ts` uses. TypeScript declares it only together
 * with the whole browser (`lib.dom`), whose globals would hide mistakes here.
 */
declare namespace WebAssembly {
  class Memory {
    constructor(descriptor: { readonly initial: number; readonly maximum?: number });
    readonly buffer: ArrayBuffer;
  }
}
