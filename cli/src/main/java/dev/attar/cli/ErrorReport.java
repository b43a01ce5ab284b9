package dev.attar.cli;

import dev.attar.compute.DeviceException;
import dev.attar.formats.FormatException;
import java.io.EOFException;
import java.io.IOException;
import java.io.InterruptedIOException;
import java.io.UncheckedIOException;
import java.nio.channels.ClosedByInterruptException;
import java.nio.file.AccessDeniedException;
import java.nio.file.DirectoryNotEmptyException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.FileSystemLoopException;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutionException;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.UnmatchedArgumentException;

/** Says what went wrong: one line on standard error, whatever the exception. */
final class ErrorReport {

  private ErrorReport() {}

  /** Reports a wrong command line; returns the exit code. */
  static int usage(ParameterException e, Console console) {
    String name = e.getCommandLine().getCommandSpec().qualifiedName();
    console.err().println("attar: " + Text.escape(usageMessage(e)) + " (try '" + name + " --help')");
    return Main.USAGE;
  }

  /** Reports a failure, with its stack trace if asked; returns the exit code. */
  static int failure(Throwable e, Console console, boolean verbose) {
    String what = isInterruption(e) ? "interrupted" : message(e);
    String advice = e instanceof ResumableException resumable ? "; " + resumable.advice() : "";
    console.err().println("attar: " + Text.escape(what + advice));
    if (verbose) {
      e.printStackTrace(console.err());
    }
    return Main.FAILURE;
  }

  private static String usageMessage(ParameterException e) {
    if (e instanceof UnmatchedArgumentException unmatched && !unmatched.getUnmatched().isEmpty()) {
      String word = unmatched.getUnmatched().getFirst();
      List<String> suggestions = unmatched.getSuggestions();
      String meant = suggestions.isEmpty() ? "" : ", did you mean " + String.join(" or ", suggestions) + "?";
      boolean command = e.getCommandLine().getParent() == null;
      String what = unmatched.isUnknownOption()
        ? "unknown option"
        : command
          ? "unknown command"
          : "unexpected argument";
      return what + " '" + word + "'" + meant;
    }
    return lowerFirst(String.valueOf(e.getMessage()));
  }

  /** What happened, in a clause. */
  static String message(Throwable e) {
    return switch (e) {
      case FormatException bad -> bad.getMessage();
      case ResumableException wrapped -> message(wrapped.getCause());
      case UncheckedIOException wrapped -> message(wrapped.getCause());
      case ExecutionException wrapped when wrapped.getCause() != null -> message(wrapped.getCause());
      case CompletionException wrapped when wrapped.getCause() != null -> message(wrapped.getCause());
      case FileSystemException file -> file.getFile() == null ? reason(file) : file.getFile() + ": " + reason(file);
      case IOException io -> reason(io);
      case DeviceException device -> device.getMessage();
      case OutOfMemoryError _ -> outOfMemory();
      case InternalError fault when (
        isMappingFault(fault)
      ) -> "a file became shorter, or its disk failed, while it was read";
      default -> "internal error, please report it (--verbose shows where): " + e;
    };
  }

  /** Why a file could not be read or written, without its name. */
  static String reason(IOException e) {
    return switch (e) {
      case FileSystemException file when file.getReason() != null -> lowerFirst(file.getReason());
      case NoSuchFileException _ -> "no such file or folder";
      case AccessDeniedException _ -> "permission denied";
      case FileAlreadyExistsException _ -> "exists already";
      case NotDirectoryException _ -> "not a folder";
      case DirectoryNotEmptyException _ -> "a folder that is not empty";
      case FileSystemLoopException _ -> "a folder that contains itself";
      case EOFException _ -> "ends too early";
      case IOException other when other.getMessage() != null -> lowerFirst(other.getMessage());
      default -> "cannot be read or written (" + e.getClass().getSimpleName() + ")";
    };
  }

  /** Whether the command was told to stop, whatever that made fail. */
  private static boolean isInterruption(Throwable e) {
    for (Throwable cause = e; cause != null; cause = cause.getCause()) {
      if (
        cause instanceof InterruptedException ||
        cause instanceof InterruptedIOException ||
        cause instanceof ClosedByInterruptException ||
        // what the JDK says to those who would still register something for the end of the process
        (cause instanceof IllegalStateException && "Shutdown in progress".equals(cause.getMessage()))
      ) {
        return true;
      }
    }
    return false;
  }

  private static String outOfMemory() {
    long megabytes = Runtime.getRuntime().maxMemory() >> 20;
    return (
      "out of memory with a heap of " +
      megabytes +
      " MB: give it more by ATTAR_JAVA_OPTS=-Xmx" +
      2 * megabytes +
      "m, or use fewer --threads"
    );
  }

  /** Reading a mapped file beyond an end that has moved, or on a disk that fails, is this error in Java. */
  private static boolean isMappingFault(InternalError e) {
    return String.valueOf(e.getMessage()).contains("unsafe memory access");
  }

  private static String lowerFirst(String text) {
    // "No space left" becomes "no space left"; "GGUF" and "I/O error" stay.
    return text.length() > 1 && Character.isLowerCase(text.charAt(1))
      ? text.substring(0, 1).toLowerCase(Locale.ROOT) + text.substring(1)
      : text;
  }
}
