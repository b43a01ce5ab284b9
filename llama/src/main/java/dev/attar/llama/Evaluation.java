package dev.attar.llama;

import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BOOLEAN;

import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.MemorySegment;
import java.lang.invoke.MethodHandles;

/**
 * Passes {@code ggml_backend_sched_eval_callback} on to an observer.
 *
 * <p>The scheduler computes a graph in parts, one for each stretch of nodes on one device. An answer of false ends the part only; the
 * next one begins as if nothing had been said. Each of them is therefore ended at its first node, until the graph of the next
 * micro-batch begins.
 */
final class Evaluation implements AutoCloseable {

  private static final FunctionDescriptor CALLBACK = FunctionDescriptor.of(
    JAVA_BOOLEAN,
    ADDRESS,
    JAVA_BOOLEAN,
    ADDRESS
  );

  private final LlamaModel model;
  private final GgmlTensors tensors;
  private final NodeObserver observer;
  private final Upcall upcall = new Upcall();
  private final Arena arena = Arena.ofShared();
  private final MemorySegment callback = Upcall.stub(MethodHandles.lookup(), this, "accept", CALLBACK, arena);
  private boolean running;
  private String firstNode; // by its name a graph's beginning is known
  private boolean stopped;
  private boolean complete;

  Evaluation(LlamaModel model, GgmlTensors tensors, NodeObserver observer) {
    this.model = model;
    this.tensors = tensors;
    this.observer = observer;
  }

  /** For the parameters of a context. */
  MemorySegment callback() {
    return callback;
  }

  /** Precedes the computation of a batch. */
  void begin() {
    running = true;
    firstNode = null;
    stopped = false;
    complete = true;
  }

  /** Follows it, and throws what the observer threw. Says whether all nodes were computed. */
  boolean end() {
    running = false;
    upcall.rethrow();
    return complete;
  }

  boolean running() {
    return running;
  }

  @SuppressWarnings({ "unused", "UnusedMethod", "UnusedVariable" }) // called by native code, whose signature this is
  private boolean accept(MemorySegment tensor, boolean ask, MemorySegment userData) {
    if (upcall.failed()) {
      return ask; // this node is computed and ends its part
    }
    // Neither leaves access to what is gone. A shared arena's end costs more, and there are many questions.
    try (Arena call = ask ? Arena.ofConfined() : Arena.ofShared()) {
      Node node = new Node(model, tensors, tensor, call);
      return ask ? wants(node) : goesOn(node);
    } catch (RuntimeException e) {
      upcall.keep(e);
    } catch (Error e) {
      upcall.keep(e);
    }
    return ask;
  }

  private boolean wants(Node node) {
    if (firstNode == null) {
      firstNode = node.name();
    } else if (stopped && firstNode.equals(node.name())) {
      stopped = false;
    }
    return stopped || observer.wants(node);
  }

  private boolean goesOn(Node node) {
    if (!stopped && !observer.computed(node)) {
      stopped = true;
      complete = false;
    }
    return !stopped;
  }

  /** Frees the callback; the context must be gone. */
  @Override
  public void close() {
    arena.close();
  }
}
