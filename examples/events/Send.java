// Send usage events from Java 17 or newer, with the standard library alone:
//   METERKIT_URL=http://localhost:8700 METERKIT_KEY=... java Send.java acme request-17 request-18

import java.io.IOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.concurrent.ThreadLocalRandom;
import java.util.stream.Collectors;

public final class Send {
    private static final HttpClient CLIENT =
            HttpClient.newBuilder()
                    .version(HttpClient.Version.HTTP_1_1)
                    .connectTimeout(Duration.ofSeconds(5))
                    .build();

    /** One event; `id` names the piece of work, and stays the same when it is sent again. */
    static String creditScore(String company, String id) {
        return """
                {"specversion": "1.0", "type": "credit-score", "source": "score-api",
                 "id": %s, "subject": %s, "time": "%s"}"""
                .formatted(quoted(id), quoted(company), Instant.now());
    }

    /**
     * Send events, a JSON list, again and again until the service has them; each counts once all the same.
     *
     * @throws IllegalArgumentException the service refuses them: that is a mistake in the program
     */
    static String send(String url, String key, String events) throws InterruptedException {
        HttpRequest request =
                HttpRequest.newBuilder(URI.create(url + "/v1/events"))
                        .timeout(Duration.ofSeconds(10))
                        .header("Authorization", "Bearer " + key)
                        .header("Content-Type", "application/cloudevents-batch+json")
                        .POST(HttpRequest.BodyPublishers.ofString(events))
                        .build();
        for (long wait = 100; ; wait = Math.min(2 * wait, 30_000)) {
            long after = 0;
            try {
                HttpResponse<String> response = CLIENT.send(request, HttpResponse.BodyHandlers.ofString());
                int status = response.statusCode();
                if (status >= 200 && status < 300) {
                    return response.body();
                }
                if (status >= 400 && status < 500 && status != 408 && status != 429) {
                    throw new IllegalArgumentException(status + ": " + response.body());
                }
                after = 1000 * response.headers().firstValueAsLong("Retry-After").orElse(0);
            } catch (IOException noResponse) {
                // It may have counted, or not: send it again.
            }
            Thread.sleep(Math.max(after, ThreadLocalRandom.current().nextLong(wait / 2, 3 * wait / 2)));
        }
    }

    /** A JSON text of what has no control characters. */
    static String quoted(String text) {
        return '"' + text.replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    }

    public static void main(String[] arguments) throws InterruptedException {
        String events =
                Arrays.stream(arguments)
                        .skip(1)
                        .map(id -> creditScore(arguments[0], id))
                        .collect(Collectors.joining(", ", "[", "]"));
        System.out.println(send(System.getenv("METERKIT_URL"), System.getenv("METERKIT_KEY"), events));
    }
}
