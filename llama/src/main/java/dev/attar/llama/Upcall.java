package dev.attar.llama;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;

/** Our own code, called by native code. What it throws must not pass through the native frames: it is kept here meanwhile. */
final class Upcall {

  private RuntimeException exception;
  private Error error;

  /**
   * A native function that calls a method.
   *
   * @param lookup has access to the method
   * @param target its object
   * @param method its name; its types are those of the descriptor
   * @param arena frees the function
   */
  static MemorySegment stub(
    MethodHandles.Lookup lookup,
    Object target,
    String method,
    FunctionDescriptor descriptor,
    Arena arena
  ) {
    try {
      return Linker.nativeLinker().upcallStub(
        lookup.findVirtual(target.getClass(), method, descriptor.toMethodType()).bindTo(target),
        descriptor,
        arena
      );
    } catch (ReflectiveOperationException e) {
      throw new LinkageError(e.getMessage(), e);
    }
  }

  void keep(RuntimeException thrown) {
    exception = thrown;
  }

  void keep(Error thrown) {
    error = thrown;
  }

  /** Whether something was thrown since the last {@link #rethrow}. */
  boolean failed() {
    return exception != null || error != null;
  }

  /** Throws what was kept, if anything was, and forgets it. */
  void rethrow() {
    RuntimeException thrown = exception;
    Error erred = error;
    exception = null;
    error = null;
    if (erred != null) {
      throw erred;
    }
    if (thrown != null) {
      throw thrown;
    }
  }
}
