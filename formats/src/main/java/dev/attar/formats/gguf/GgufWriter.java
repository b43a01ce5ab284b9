package dev.attar.formats.gguf;

import dev.attar.formats.Metadata;
import dev.attar.formats.OutputCheck;
import dev.attar.formats.OutputFiles;
import dev.attar.formats.TensorInfo;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.AtomicMoveNotSupportedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.NotDirectoryException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;

/**
 * Writes a GGUF file (version 3, laid out as {@link GgufLayout} says). The bytes go to a temporary file beside the output, which takes
 * the output's name only in {@link #commit}: until then, and if anything fails, the process is told to end, or the writer is closed,
 * there is no output and the temporary is gone.
 *
 * <pre>{@code
 * try (GgufWriter writer = GgufWriter.create(out, metadata, tensors, false)) {
 *   writer.write(0, 0, bytes, 0, bytes.length);
 *   writer.commit();
 * }
 * }</pre>
 */
public final class GgufWriter implements AutoCloseable {

  // A write from an array passes through native memory of the same size, which the JDK keeps for each thread.
  private static final int MAX_WRITE = 1 << 20;

  private final Path out;
  private final Path target;
  private final Path temporary;
  private final boolean overwrite;
  private final GgufLayout layout;
  private final FileChannel channel;
  private final Ranges[] written;
  private volatile IOException failure;
  private volatile boolean open = true;

  private GgufWriter(Path out, Path target, Path temporary, boolean overwrite, GgufLayout layout) throws IOException {
    this.out = out;
    this.target = target;
    this.temporary = temporary;
    this.overwrite = overwrite;
    this.layout = layout;
    this.written = new Ranges[layout.tensors().size()];
    for (int i = 0; i < written.length; i++) {
      written[i] = new Ranges();
    }
    OutputFiles.addTemporary(temporary);
    try {
      channel = FileChannel.open(temporary, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE);
    } catch (IOException e) {
      OutputFiles.removeTemporary(temporary);
      throw failed(e);
    }
  }

  /**
   * Checks that the output can be written and begins a temporary file in its folder.
   *
   * <p>An output that is the file being read is fine where the system lets a mapped file be replaced (Windows does not).
   *
   * @param out the file to be; a symbolic link is followed
   * @param metadata all that is written, in this order
   * @param tensors all tensors, in the order of the file
   * @param overwrite whether an existing file is replaced
   * @throws FileAlreadyExistsException if there is a file of this name and {@code overwrite} is not set
   * @throws IOException if the folder is missing, the output is no regular file, the disk has too little room, or the temporary
   *     cannot be written; the message names the output
   * @throws IllegalArgumentException as {@link GgufLayout#of}
   */
  public static GgufWriter create(Path out, Metadata metadata, List<TensorInfo> tensors, boolean overwrite)
    throws IOException {
    GgufLayout layout = GgufLayout.of(metadata, tensors);
    Path target = checkOutput(out, overwrite);
    checkSpace(out, target.getParent(), layout.fileBytes());
    GgufWriter writer = new GgufWriter(out, target, OutputFiles.temporaryBeside(target), overwrite, layout);
    writer.put(layout.header(), 0, layout.header().length, 0);
    return writer;
  }

  /**
   * Checks what {@link #create} would, without writing: that the output's folder exists and no file is in the way. To be called
   * before long work.
   *
   * @return the absolute path that will be written, links followed
   * @throws IOException as {@link #create}
   */
  public static Path checkOutput(Path out, boolean overwrite) throws IOException {
    if (out.getFileName() == null || Files.isDirectory(out)) {
      throw new FileAlreadyExistsException(out.toString(), null, "is a folder, expected the name of a file to write");
    }
    if (!Files.exists(out)) {
      Path target = out.toAbsolutePath();
      if (Files.notExists(target.getParent())) {
        throw new NoSuchFileException(out.toString(), null, "the folder " + target.getParent() + " does not exist");
      }
      if (!Files.isDirectory(target.getParent())) {
        throw new IOException(out + ": " + target.getParent() + " is not a folder", new NotDirectoryException(""));
      }
      return target;
    }
    if (!Files.isRegularFile(out)) {
      throw new FileAlreadyExistsException(out.toString(), null, "is not a regular file");
    }
    if (!overwrite) {
      throw alreadyExists(out);
    }
    return out.toRealPath();
  }

  private static FileAlreadyExistsException alreadyExists(Path out) {
    return new FileAlreadyExistsException(out.toString(), null, "already exists, use --overwrite to replace it");
  }

  /**
   * Checks that a folder's disk has room.
   *
   * @param out what needs it, for the message
   * @throws IOException if it does not have so many bytes
   */
  public static void checkSpace(Path out, Path folder, long needed) throws IOException {
    long usable = Files.getFileStore(folder).getUsableSpace();
    if (usable >= 0 && usable < needed) {
      throw new IOException(
        String.format(Locale.ROOT, "%s: needs %,d bytes, only %,d are free on the disk", out, needed, usable)
      );
    }
  }

  /** Where everything lies in the file. */
  public GgufLayout layout() {
    return layout;
  }

  /**
   * Writes some bytes of a tensor. May be called by several threads at once, in any order of tensors and offsets.
   *
   * @param tensorIndex which tensor, by its place in the list given to {@link #create}
   * @param byteOffset where in the tensor's bytes
   * @param bytes holds the bytes
   * @param offset of the first byte in {@code bytes}
   * @param length number of bytes
   * @throws IOException if writing fails (a full disk): the temporary is deleted and every later call fails too
   * @throws IndexOutOfBoundsException if there is no such tensor or it does not have these bytes
   * @throws IllegalStateException if this is closed
   */
  public void write(int tensorIndex, long byteOffset, byte[] bytes, int offset, int length) throws IOException {
    Objects.checkFromIndexSize(offset, length, bytes.length);
    Objects.checkFromIndexSize(byteOffset, length, layout.tensors().get(tensorIndex).bytes());
    put(bytes, offset, length, layout.tensorPosition(tensorIndex) + byteOffset);
    written[tensorIndex].add(byteOffset, byteOffset + length);
  }

  private void put(byte[] bytes, int offset, int length, long position) throws IOException {
    checkUsable();
    try {
      for (int done = 0; done < length; ) {
        ByteBuffer part = ByteBuffer.wrap(bytes, offset + done, Math.min(MAX_WRITE, length - done));
        done += channel.write(part, position + done);
      }
    } catch (IOException e) {
      throw failed(e);
    }
  }

  private void checkUsable() throws IOException {
    if (failure != null) {
      throw new IOException(failure.getMessage(), failure);
    }
    if (!open) {
      throw new IllegalStateException(out + ": the writer is closed");
    }
  }

  /** Deletes the temporary and makes the exception to throw. The first failure counts: others follow from it. */
  private synchronized IOException failed(IOException cause) {
    if (failure == null) {
      failure = OutputFiles.cannotWrite(out, cause);
      discard(failure);
    }
    return failure;
  }

  /** Deletes the temporary, which the check has found bad. */
  private synchronized void refuse() {
    failure = new IOException(out + ": was refused");
    discard(failure);
  }

  /** As {@link #commit(OutputCheck)}, without a check. */
  public void commit() throws IOException {
    complete();
    rename();
  }

  /**
   * Completes the file: pads it, waits until it is on the disk, has it checked and gives it the output's name.
   *
   * @throws IOException if that fails, or a file of that name has appeared and is not to be replaced, or what the check throws; the
   *     temporary is deleted
   * @throws InterruptedException if the check is interrupted; the temporary is deleted
   * @throws IllegalStateException if a byte of a tensor was not written, or this is closed
   */
  public void commit(OutputCheck check) throws IOException, InterruptedException {
    complete();
    boolean isGood = false;
    try {
      check.check(temporary);
      isGood = true;
    } finally {
      if (!isGood) {
        refuse();
      }
    }
    rename();
  }

  private void complete() throws IOException {
    checkUsable();
    for (int i = 0; i < written.length; i++) {
      TensorInfo tensor = layout.tensors().get(i);
      long gap = written[i].firstGap();
      if (gap < tensor.bytes()) {
        throw new IllegalStateException(out + ": tensor " + tensor.name() + " lacks its bytes from " + gap);
      }
    }
    try {
      for (int i = 0; i < written.length; i++) {
        long end = layout.tensorPosition(i) + layout.tensors().get(i).bytes();
        long next = i + 1 < written.length ? layout.tensorPosition(i + 1) : layout.fileBytes();
        byte[] zeros = new byte[(int) Math.min(next - end, MAX_WRITE)];
        for (long at = end; at < next; at += zeros.length) {
          put(zeros, 0, (int) Math.min(zeros.length, next - at), at);
        }
      }
      channel.force(true);
      channel.close();
    } catch (IOException e) {
      throw failed(e);
    }
  }

  private void rename() throws IOException {
    try {
      if (!overwrite && Files.exists(target)) {
        throw alreadyExists(out);
      }
      move();
    } catch (IOException e) {
      throw failed(e);
    }
    open = false;
    OutputFiles.removeTemporary(temporary);
    OutputFiles.syncFolder(target.getParent());
  }

  private void move() throws IOException {
    try {
      Files.move(temporary, target, StandardCopyOption.ATOMIC_MOVE);
    } catch (AtomicMoveNotSupportedException _) {
      Files.move(temporary, target, StandardCopyOption.REPLACE_EXISTING);
    }
  }

  /** Deletes the temporary unless {@link #commit} has succeeded. */
  @Override
  public synchronized void close() throws IOException {
    if (open && failure == null) {
      open = false;
      IOException problem = new IOException(out + ": a temporary file could not be deleted");
      discard(problem);
      if (problem.getSuppressed().length > 0) {
        throw problem;
      }
    }
  }

  private void discard(IOException problem) {
    try {
      if (channel != null) {
        channel.close();
      }
      Files.deleteIfExists(temporary);
      OutputFiles.removeTemporary(temporary);
    } catch (IOException e) {
      problem.addSuppressed(e);
    }
  }

  /** Which bytes of one tensor have been written: disjoint ranges that do not touch, by their start. */
  private static final class Ranges {

    private final TreeMap<Long, Long> ends = new TreeMap<>();

    synchronized void add(long from, long to) {
      if (from == to) {
        return;
      }
      long start = from;
      long end = to;
      Map.Entry<Long, Long> other = ends.floorEntry(from);
      if (other != null && other.getValue() >= from) {
        start = other.getKey();
        end = Math.max(end, other.getValue());
      }
      for (other = ends.higherEntry(from); other != null && other.getKey() <= end; other = ends.higherEntry(from)) {
        end = Math.max(end, other.getValue());
        ends.remove(other.getKey());
      }
      ends.put(start, end);
    }

    /** The first byte that has not been written. */
    synchronized long firstGap() {
      Map.Entry<Long, Long> first = ends.firstEntry();
      return first != null && first.getKey() == 0 ? first.getValue() : 0;
    }
  }
}
