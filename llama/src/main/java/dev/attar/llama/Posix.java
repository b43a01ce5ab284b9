package dev.attar.llama;

import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;

import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.invoke.MethodHandle;

/** The few functions of the C library that a worker needs and Java does not have. Only for Linux and macOS. */
final class Posix {

  private static final int SIGHUP = 1;
  private static final int SIGINT = 2;
  private static final long SIG_IGN = 1;

  private Posix() {}

  static boolean isHere() {
    return !Platform.host().system().equals("win");
  }

  /** Makes descriptor {@code to} a copy of {@code from}; whether that was possible. */
  static boolean copyDescriptor(int from, int to) {
    MethodHandle dup2 = function("dup2", JAVA_INT, JAVA_INT, JAVA_INT);
    return Natives.call(() -> (int) dup2.invokeExact(from, to)) == to;
  }

  /** What a terminal sends to all processes in its foreground, for Ctrl-C and when it is closed, is ignored from now on. */
  static void ignoreTerminalSignals() {
    MethodHandle signal = function("signal", JAVA_LONG, JAVA_INT, JAVA_LONG);
    for (int number : new int[] { SIGHUP, SIGINT }) {
      Natives.call(() -> (long) signal.invokeExact(number, SIG_IGN));
    }
  }

  /** Ends this process without running anything more, as the destructors of libraries whose threads still compute. */
  static void exit(int code) {
    MethodHandle exit = Linker.nativeLinker().downcallHandle(
      Linker.nativeLinker().defaultLookup().findOrThrow("_exit"),
      FunctionDescriptor.ofVoid(JAVA_INT)
    );
    Natives.run(() -> {
      exit.invokeExact(code);
    });
  }

  static MethodHandle function(String name, MemoryLayout result, MemoryLayout... parameters) {
    Linker linker = Linker.nativeLinker();
    return linker.downcallHandle(linker.defaultLookup().findOrThrow(name), FunctionDescriptor.of(result, parameters));
  }
}
