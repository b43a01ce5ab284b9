package dev.attar.bench.report;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.WebSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Comparator;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.stream.Stream;

/** A browser without a window, driven by the Chrome DevTools Protocol. */
final class Chromium implements AutoCloseable {

  private static final int PATIENCE_SECONDS = 60;
  private static final ObjectMapper MAPPER = new ObjectMapper();
  private static final Base64.Decoder BASE64 = Base64.getDecoder();

  private final Process process;
  private final Path profile;
  private final HttpClient client = HttpClient.newHttpClient();
  private final WebSocket socket;
  private final AtomicInteger lastId = new AtomicInteger();
  private final Map<Integer, CompletableFuture<JsonNode>> pending = new ConcurrentHashMap<>();
  private final Map<String, Page> pages = new ConcurrentHashMap<>();

  /** How a page is shown. */
  record View(int width, int height, boolean dark, boolean phone, int scale) {
    static final View DESKTOP = new View(1280, 900, false, false, 1);
    static final View DARK = new View(1280, 900, true, false, 1);
    static final View PHONE = new View(390, 844, false, true, 1);
  }

  private Chromium(Process process, Path profile, URI address) throws IOException {
    this.process = process;
    this.profile = profile;
    this.socket = await(client.newWebSocketBuilder().buildAsync(address, new Listener()));
  }

  /** Starts the browser that the environment variable {@code CHROME} names, or the first one on the path. */
  static Chromium start() throws IOException {
    Path profile = Files.createTempDirectory("attar-chromium");
    Process process = new ProcessBuilder(
      executable().toString(),
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      "--hide-scrollbars",
      "--user-data-dir=" + profile,
      "--remote-debugging-port=0",
      "about:blank"
    )
      .redirectErrorStream(true)
      .start();
    try {
      return new Chromium(process, profile, address(process));
    } catch (IOException e) {
      end(process, profile);
      throw e;
    }
  }

  private static Path executable() {
    String named = System.getenv("CHROME");
    if (named != null) {
      return Path.of(named);
    }
    List<String> names = List.of("chromium", "chromium-browser", "google-chrome", "google-chrome-stable");
    return Stream.of(System.getenv("PATH").split(File.pathSeparator))
      .flatMap(folder -> names.stream().map(name -> Path.of(folder, name)))
      .filter(Files::isExecutable)
      .findFirst()
      .orElseThrow(() ->
        new AssertionError(
          "no browser to open the report in: install the Debian package chromium, or name one in the environment variable CHROME"
        )
      );
  }

  private static URI address(Process process) throws IOException {
    String marker = "DevTools listening on ";
    StringBuilder log = new StringBuilder();
    BufferedReader reader = process.inputReader();
    for (String line = reader.readLine(); line != null; line = reader.readLine()) {
      if (line.startsWith(marker)) {
        // What it says from here on is of no interest, but must not fill the pipe.
        Thread.ofVirtual().start(() -> reader.lines().forEach(_ -> {}));
        return URI.create(line.substring(marker.length()));
      }
      log.append(line).append('\n');
    }
    throw new IOException("the browser did not start:\n" + log);
  }

  /** Opens a file. Returns when it is loaded. */
  Page open(Path file, View view) throws IOException {
    String target = call(null, "Target.createTarget", Map.of("url", "about:blank")).get("targetId").asText();
    String session = call(null, "Target.attachToTarget", Map.of("targetId", target, "flatten", true))
      .get("sessionId")
      .asText();
    Page page = new Page(target, session);
    pages.put(session, page);
    for (String domain : List.of("Page", "Runtime", "Log", "Network")) {
      page.call(domain + ".enable", Map.of());
    }
    page.show(view);
    // As if the tab were in front: only then may a page use the clipboard.
    page.call("Emulation.setFocusEmulationEnabled", Map.of("enabled", true));
    page.call("Page.navigate", Map.of("url", file.toUri().toString()));
    await(page.loaded);
    return page;
  }

  /** Lets pages use the clipboard without asking the user. */
  void allowClipboard() throws IOException {
    call(
      null,
      "Browser.grantPermissions",
      Map.of("permissions", List.of("clipboardReadWrite", "clipboardSanitizedWrite"))
    );
  }

  /** A tab. */
  final class Page implements AutoCloseable {

    private final String target;
    private final String session;
    private final CompletableFuture<Void> loaded = new CompletableFuture<>();
    private final List<String> requests = new CopyOnWriteArrayList<>();
    private final List<String> problems = new CopyOnWriteArrayList<>();

    private Page(String target, String session) {
      this.target = target;
      this.session = session;
    }

    /** Addresses that the page asked for, its own first. */
    List<String> requests() {
      return requests;
    }

    /** Exceptions, errors and warnings on the console, violations of the content security policy. */
    List<String> problems() {
      return problems;
    }

    JsonNode call(String method, Map<String, Object> parameters) throws IOException {
      return Chromium.this.call(session, method, parameters);
    }

    /** Shows the page with another size or colour scheme. */
    void show(View view) throws IOException {
      call(
        "Emulation.setDeviceMetricsOverride",
        Map.of(
          "width",
          view.width(),
          "height",
          view.height(),
          "deviceScaleFactor",
          view.scale(),
          "mobile",
          view.phone()
        )
      );
      Map<String, String> scheme = Map.of("name", "prefers-color-scheme", "value", view.dark() ? "dark" : "light");
      call("Emulation.setEmulatedMedia", Map.of("features", List.of(scheme)));
    }

    /** The value of an expression, after it has come if it is a promise. */
    JsonNode evaluate(String expression) throws IOException {
      JsonNode result = call(
        "Runtime.evaluate",
        Map.of("expression", expression, "awaitPromise", true, "returnByValue", true, "userGesture", true)
      );
      if (result.has("exceptionDetails")) {
        throw new IOException(expression + ": " + result.get("exceptionDetails"));
      }
      return result.path("result").path("value");
    }

    /** Returns when an expression has become true. */
    void waitFor(String expression) throws IOException {
      evaluate(
        "new Promise((done, fail) => { let left = 600; const look = () => " +
          ("(" +
            expression +
            ") ? done(true) : left-- > 0 ? setTimeout(look, 50) : fail(new Error('waited in vain')); ") +
          "look(); })"
      );
    }

    /** A PNG of the whole page. */
    byte[] picture() throws IOException {
      return BASE64.decode(
        call("Page.captureScreenshot", Map.of("format", "png", "captureBeyondViewport", true)).get("data").asText()
      );
    }

    /** A PDF as the browser prints it. */
    byte[] print() throws IOException {
      return BASE64.decode(call("Page.printToPDF", Map.of("preferCSSPageSize", true)).get("data").asText());
    }

    private void hear(String method, JsonNode event) {
      switch (method) {
        case "Page.loadEventFired" -> loaded.complete(null);
        case "Network.requestWillBeSent" -> requests.add(event.path("request").path("url").asText());
        case "Runtime.exceptionThrown" -> problems.add(event.path("exceptionDetails").toString());
        case "Log.entryAdded" -> problems.add(event.path("entry").toString());
        case "Runtime.consoleAPICalled" -> problems.add(event.path("args").toString());
        default -> {
          // Nothing that says how the page fares.
        }
      }
    }

    @Override
    public void close() throws IOException {
      Chromium.this.call(null, "Target.closeTarget", Map.of("targetId", target));
      pages.remove(session);
    }
  }

  private JsonNode call(String session, String method, Map<String, Object> parameters) throws IOException {
    int id = lastId.incrementAndGet();
    ObjectNode message = MAPPER.createObjectNode().put("id", id).put("method", method);
    message.set("params", MAPPER.valueToTree(parameters));
    if (session != null) {
      message.put("sessionId", session);
    }
    CompletableFuture<JsonNode> answer = new CompletableFuture<>();
    pending.put(id, answer);
    await(socket.sendText(message.toString(), true));
    JsonNode result = await(answer);
    if (result.has("error")) {
      throw new IOException(method + ": " + result.get("error"));
    }
    return result.path("result");
  }

  private final class Listener implements WebSocket.Listener {

    private final StringBuilder text = new StringBuilder();

    @Override
    public CompletionStage<?> onText(WebSocket socket, CharSequence data, boolean last) {
      text.append(data);
      if (last) {
        String message = text.toString();
        text.setLength(0);
        try {
          hear(MAPPER.readTree(message));
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
      }
      socket.request(1);
      return null;
    }

    @Override
    public void onError(WebSocket socket, Throwable error) {
      pending.values().forEach(answer -> answer.completeExceptionally(error));
    }

    private void hear(JsonNode message) {
      if (message.has("id")) {
        Optional.ofNullable(pending.remove(message.get("id").asInt())).ifPresent(answer -> answer.complete(message));
      } else {
        Optional.ofNullable(pages.get(message.path("sessionId").asText())).ifPresent(page ->
          page.hear(message.path("method").asText(), message.path("params"))
        );
      }
    }
  }

  private static <T> T await(CompletableFuture<T> future) throws IOException {
    try {
      return future.get(PATIENCE_SECONDS, TimeUnit.SECONDS);
    } catch (ExecutionException e) {
      throw new IOException(e.getCause());
    } catch (TimeoutException e) {
      throw new IOException("the browser has not answered for " + PATIENCE_SECONDS + " s", e);
    } catch (InterruptedException e) {
      Thread.currentThread().interrupt();
      throw new IOException(e);
    }
  }

  @Override
  public void close() throws IOException {
    socket.abort();
    client.shutdownNow();
    end(process, profile);
  }

  private static void end(Process process, Path profile) throws IOException {
    List<ProcessHandle> all = new ArrayList<>(process.descendants().toList());
    all.add(process.toHandle());
    all.forEach(ProcessHandle::destroyForcibly);
    for (ProcessHandle handle : all) {
      await(handle.onExit());
    }
    try (Stream<Path> files = Files.walk(profile)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }
}
