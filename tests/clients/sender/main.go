// Sender posts prepared bodies to an ingestion server over a number of connections, each sending its next body when the
// last one was acknowledged, and says how long each took.
//
//	sender HOST:PORT PATH CONNECTIONS FILE
//
// FILE holds bodies one after the other, each behind its length as four bytes, the least significant first. Standard
// output is one JSON object: seconds from the first byte to the last answer, milliseconds of each request in the order of
// the answers, and how many answers had which status. It repeats nothing and gives up on the first broken connection.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

type outcome struct {
	Seconds      float64        `json:"seconds"`
	Milliseconds []float64      `json:"milliseconds"`
	Statuses     map[string]int `json:"statuses"`
}

func main() {
	if len(os.Args) != 5 {
		fail(fmt.Errorf("usage: sender HOST:PORT PATH CONNECTIONS FILE"))
	}
	connections, err := strconv.Atoi(os.Args[3])
	if err != nil || connections < 1 {
		fail(fmt.Errorf("CONNECTIONS is a number from 1 on, not %q", os.Args[3]))
	}
	requests, err := read(os.Args[4], os.Args[1], os.Args[2])
	if err != nil {
		fail(err)
	}
	told, err := send(os.Args[1], connections, requests)
	if err != nil {
		fail(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(told); err != nil {
		fail(err)
	}
}

// read makes the requests whole, so that sending them is nothing but a write.
func read(file, host, path string) ([][]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var requests [][]byte
	for len(data) > 0 {
		if len(data) < 4 || len(data)-4 < int(binary.LittleEndian.Uint32(data)) {
			return nil, fmt.Errorf("%s ends in the middle of a body", file)
		}
		size := int(binary.LittleEndian.Uint32(data))
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n", path, host, size)
		requests = append(requests, append([]byte(head), data[4:4+size]...))
		data = data[4+size:]
	}
	return requests, nil
}

func send(address string, connections int, requests [][]byte) (outcome, error) {
	open := make([]net.Conn, connections)
	for i := range open {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			return outcome{}, err
		}
		defer connection.Close()
		open[i] = connection
	}
	var next atomic.Int64
	var lock sync.Mutex
	var work sync.WaitGroup
	var broken error
	told := outcome{Statuses: map[string]int{}}
	began := time.Now()
	for _, connection := range open {
		work.Add(1)
		go func(connection net.Conn) {
			defer work.Done()
			answers := bufio.NewReader(connection)
			for {
				number := int(next.Add(1)) - 1
				if number >= len(requests) {
					return
				}
				sent := time.Now()
				status, err := exchange(connection, answers, requests[number])
				took := time.Since(sent)
				lock.Lock()
				if err != nil {
					broken = err
					lock.Unlock()
					return
				}
				told.Milliseconds = append(told.Milliseconds, took.Seconds()*1e3)
				told.Statuses[strconv.Itoa(status)]++
				lock.Unlock()
			}
		}(connection)
	}
	work.Wait()
	told.Seconds = time.Since(began).Seconds()
	return told, broken
}

func exchange(connection net.Conn, answers *bufio.Reader, request []byte) (int, error) {
	if _, err := connection.Write(request); err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(answers, nil)
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, err
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "sender:", err)
	os.Exit(1)
}
