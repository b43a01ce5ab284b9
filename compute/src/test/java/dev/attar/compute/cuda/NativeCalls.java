package dev.attar.compute.cuda;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.SymbolLookup;
import java.lang.foreign.ValueLayout;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;

/** Calls of a native library by name, with arguments of whatever types they have: for tests. */
final class NativeCalls {

  private static final Map<Path, NativeCalls> LOADED = new ConcurrentHashMap<>();

  private static final Map<Class<?>, MemoryLayout> LAYOUTS = Map.of(
    Byte.class,
    ValueLayout.JAVA_BYTE,
    Integer.class,
    ValueLayout.JAVA_INT,
    Long.class,
    ValueLayout.JAVA_LONG,
    Float.class,
    ValueLayout.JAVA_FLOAT,
    Double.class,
    ValueLayout.JAVA_DOUBLE
  );

  private final SymbolLookup symbols;
  private final Map<String, MethodHandle> handles = new ConcurrentHashMap<>();

  NativeCalls(SymbolLookup symbols) {
    this.symbols = symbols;
  }

  /** A library stays loaded. */
  static NativeCalls of(Path library) {
    return LOADED.computeIfAbsent(library, file -> new NativeCalls(SymbolLookup.libraryLookup(file, Arena.global())));
  }

  /** Calls a function that returns an int. */
  int call(String name, Object... arguments) {
    return (int) invoke(name, ValueLayout.JAVA_INT, arguments);
  }

  /** Calls a function that returns a long. */
  long callLong(String name, Object... arguments) {
    return (long) invoke(name, ValueLayout.JAVA_LONG, arguments);
  }

  /** Calls a function that returns text. */
  String callString(String name, Object... arguments) {
    MemorySegment text = (MemorySegment) invoke(name, ValueLayout.ADDRESS, arguments);
    return text.reinterpret(Long.MAX_VALUE).getString(0);
  }

  /** Calls a function that returns nothing. */
  void run(String name, Object... arguments) {
    invoke(name, null, arguments);
  }

  private Object invoke(String name, MemoryLayout result, Object... arguments) {
    MemoryLayout[] layouts = Arrays.stream(arguments)
      .map(argument -> LAYOUTS.getOrDefault(argument.getClass(), ValueLayout.ADDRESS))
      .toArray(MemoryLayout[]::new);
    MethodHandle handle = handles.computeIfAbsent(name + Arrays.toString(layouts), key ->
      Linker.nativeLinker().downcallHandle(
        symbols.findOrThrow(name),
        result == null ? FunctionDescriptor.ofVoid(layouts) : FunctionDescriptor.of(result, layouts)
      )
    );
    try {
      return handle.invokeWithArguments(arguments);
    } catch (Throwable e) {
      throw new AssertionError(name, e);
    }
  }
}
