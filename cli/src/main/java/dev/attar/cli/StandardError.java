package dev.attar.cli;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandle;

/** The process's standard error as the operating system sees it. Knows Linux and macOS; elsewhere it is no terminal. */
final class StandardError {

  private static final int DESCRIPTOR = 2;
  private static final int DEFAULT_COLUMNS = 80;
  private static final long TIOCGWINSZ_LINUX = 0x5413;
  private static final long TIOCGWINSZ_MACOS = 0x40087468;

  private StandardError() {}

  /**
   * Puts the descriptor that the launcher names in {@code attar.stderr} in the place of standard error. The launcher starts the JVM
   * with a pipe there, to keep the JVM's own notices from the user.
   */
  static void restore() {
    Integer original = Integer.getInteger("attar.stderr");
    if (original == null) {
      return;
    }
    try {
      int _ = (int) function("dup2", FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_INT)).invokeExact(
        (int) original,
        DESCRIPTOR
      );
      int _ = (int) function("close", FunctionDescriptor.of(JAVA_INT, JAVA_INT)).invokeExact((int) original);
    } catch (Throwable e) {
      throw new AssertionError(e); // the functions exist and throw nothing
    }
  }

  /** Whether it is a terminal. */
  static boolean isTerminal() {
    if (!isPosix()) {
      return false;
    }
    try {
      return (int) function("isatty", FunctionDescriptor.of(JAVA_INT, JAVA_INT)).invokeExact(DESCRIPTOR) == 1;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  /** Columns of the terminal; 80 if it does not say. */
  static int columns() {
    FunctionDescriptor ioctl = FunctionDescriptor.of(JAVA_INT, JAVA_INT, JAVA_LONG, ADDRESS);
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment size = arena.allocate(JAVA_SHORT, 4); // struct winsize: rows, columns, two unused
      int status = (int) function("ioctl", ioctl, Linker.Option.firstVariadicArg(2)).invokeExact(
        DESCRIPTOR,
        isMac() ? TIOCGWINSZ_MACOS : TIOCGWINSZ_LINUX,
        size
      );
      int columns = Short.toUnsignedInt(size.getAtIndex(JAVA_SHORT, 1));
      return status == 0 && columns > 0 ? columns : DEFAULT_COLUMNS;
    } catch (Throwable e) {
      throw new AssertionError(e);
    }
  }

  private static boolean isMac() {
    return System.getProperty("os.name").startsWith("Mac");
  }

  private static boolean isPosix() {
    return isMac() || System.getProperty("os.name").equals("Linux");
  }

  private static MethodHandle function(String name, FunctionDescriptor descriptor, Linker.Option... options) {
    Linker linker = Linker.nativeLinker();
    return linker.downcallHandle(linker.defaultLookup().findOrThrow(name), descriptor, options);
  }
}
