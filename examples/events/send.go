// Send usage events from Go, with the standard library alone:
//
//	METERKIT_URL=http://localhost:8700 METERKIT_KEY=... go run send.go acme request-17 request-18
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Event is a CloudEvent. ID names the piece of work, and stays the same when it is sent again.
type Event struct {
	SpecVersion string         `json:"specversion"`
	Type        string         `json:"type"`
	Source      string         `json:"source"`
	ID          string         `json:"id"`
	Subject     string         `json:"subject"`
	Time        time.Time      `json:"time"`
	Data        map[string]any `json:"data,omitempty"`
}

var client = &http.Client{Timeout: 10 * time.Second}

// send sends events again and again until the service has them; each counts once all the same. It returns an error if
// the service refuses them: that is a mistake in the program, and no further try would help.
func send(url, key string, events []Event) (string, error) {
	body, err := json.Marshal(events)
	if err != nil {
		return "", err
	}
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 30*time.Second) {
		status, said, after := try(url, key, body)
		switch {
		case status >= 200 && status < 300:
			return said, nil
		case status >= 400 && status < 500 && status != 408 && status != 429:
			return "", fmt.Errorf("%d: %s", status, said)
		}
		time.Sleep(max(after, wait/2+time.Duration(rand.Int63n(int64(wait)))))
	}
}

// try returns the status of the response, 0 if there is none, its body, and how long to wait before the next try.
func try(url, key string, body []byte) (int, string, time.Duration) {
	request, err := http.NewRequest(http.MethodPost, url+"/v1/events", bytes.NewReader(body))
	if err != nil {
		return 0, "", 0
	}
	request.Header.Set("Authorization", "Bearer "+key)
	request.Header.Set("Content-Type", "application/cloudevents-batch+json")
	response, err := client.Do(request)
	if err != nil {
		return 0, "", 0
	}
	defer response.Body.Close()
	said, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, "", 0
	}
	seconds, _ := strconv.Atoi(response.Header.Get("Retry-After"))
	return response.StatusCode, string(said), time.Duration(seconds) * time.Second
}

func main() {
	var events []Event
	for _, id := range os.Args[2:] {
		events = append(events, Event{"1.0", "credit-score", "score-api", id, os.Args[1], time.Now().UTC(), nil})
	}
	said, err := send(os.Getenv("METERKIT_URL"), os.Getenv("METERKIT_KEY"), events)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(said)
}
