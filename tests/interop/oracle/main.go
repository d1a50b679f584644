// Oracle lets a test ask real bbolt what it does, reads and thinks of a file.
//
//	test  --- one JSON request a line, standard input --->   oracle
//	test  <-- one JSON reply a line, standard output -----   (real bbolt)
//
// The process answers until its input ends, so that a thousand questions cost
// one process start; one question is `echo '{"do": "check", ...}' | oracle`.
//
// A request is {"do": NAME, "path": FILE, "options": {...}, ...}; a reply is
// {"result": ...} or {"error": TEXT}. Keys, values and bucket names are hex
// strings; a bucket is the list of names that leads to it, [] the root bucket.
//
//	do       more fields     result
//	apply    transactions    per transaction: its id, results per operation
//	dump                     the root bucket with everything below it
//	check                    the messages of Tx.Check, [] for a sound file
//	pages                    id, type, count, overflow of every run of pages
//	stats                    counters of DB.Stats and of all buckets together
//	info                     page size, txid, root page, size in bytes
//	hold                     a number; the file stays open, and locked
//	release  held            closes what hold opened
//
// What it is not: a command for people, and not a server to leave running. It
// trusts its input. A file that is damaged enough kills it (Tx.Check reads the
// map in a goroutine of bbolt's own); the test's side starts another one.
package main

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
)

// Options are those of bolt.Options that change what is in the file or who may
// open it. Sizes are bytes, times milliseconds.
type Options struct {
	PageSize       int     `json:"page_size"`
	FreelistType   string  `json:"freelist_type"`
	NoFreelistSync bool    `json:"no_freelist_sync"`
	NoSync         bool    `json:"no_sync"`
	ReadOnly       bool    `json:"read_only"`
	TimeoutMs      int     `json:"timeout_ms"`
	FillPercent    float64 `json:"fill_percent"`
	// Before every so many transactions one begins to read; 0: nobody does.
	ReadersEvery int `json:"readers_every"`
}

// Operation is one step inside a transaction.
type Operation struct {
	Op       string   `json:"op"`
	Bucket   []string `json:"bucket"`
	Key      string   `json:"key"`
	Value    string   `json:"value"`
	Sequence uint64   `json:"sequence"`
	// Moves of a cursor: ["first"], ["seek", KEY], ["delete"], ...
	Moves [][]string `json:"moves"`
}

// Transaction is what one read-write transaction does; it commits unless told
// to roll back.
type Transaction struct {
	Ops      []Operation `json:"ops"`
	Rollback bool        `json:"rollback"`
}

// Request is one line of input.
type Request struct {
	Do           string        `json:"do"`
	Path         string        `json:"path"`
	Options      Options       `json:"options"`
	Transactions []Transaction `json:"transactions"`
	Held         int           `json:"held"`
}

// Outcome is what one operation answered. Value is a hex string, a number, a
// list of cursor positions, or absent.
type Outcome struct {
	Error string      `json:"error,omitempty"`
	Value interface{} `json:"value,omitempty"`
}

// Applied is what one transaction answered.
type Applied struct {
	Txid     int       `json:"txid"`
	Error    string    `json:"error,omitempty"`
	Outcomes []Outcome `json:"outcomes"`
}

// Entry is one element of a bucket: a pair, or a bucket of this name.
type Entry struct {
	Key    string    `json:"key"`
	Value  string    `json:"value"`
	Bucket *Contents `json:"bucket,omitempty"`
}

// Contents is all that a reader can see of a bucket, in key order.
type Contents struct {
	Sequence uint64  `json:"sequence"`
	Entries  []Entry `json:"entries"`
}

// Page is one run of pages as Tx.Page tells it.
type Page struct {
	ID       int    `json:"id"`
	Type     string `json:"type"`
	Count    int    `json:"count"`
	Overflow int    `json:"overflow"`
}

// Stats are the counters that are about the file, not about the process.
type Stats struct {
	Free          int `json:"free"`
	Keys          int `json:"keys"`
	Depth         int `json:"depth"`
	BranchPages   int `json:"branch_pages"`
	LeafPages     int `json:"leaf_pages"`
	LeafOverflow  int `json:"leaf_overflow"`
	Buckets       int `json:"buckets"`
	InlineBuckets int `json:"inline_buckets"`
}

// Info is where the live meta page points. Size is bytes up to the high-water mark.
type Info struct {
	PageSize int    `json:"page_size"`
	Txid     int    `json:"txid"`
	Root     uint64 `json:"root"`
	Size     int64  `json:"size"`
}

// held are the files that hold opened and release has not closed.
var held = map[int]*bolt.DB{}

func main() {
	// A damaged file makes bbolt read outside the map. As a panic that is an
	// answer; as a signal it would be the end.
	debug.SetPanicOnFault(true)
	in := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	for {
		line, err := in.ReadBytes('\n')
		if len(line) == 0 && err != nil {
			return
		}
		reply, err := json.Marshal(answer(line))
		if err != nil {
			panic(err)
		}
		out.Write(reply)
		out.WriteByte('\n')
		out.Flush()
	}
}

// answer carries out one request and turns panics into error replies.
func answer(line []byte) (reply map[string]interface{}) {
	defer func() {
		if r := recover(); r != nil {
			reply = map[string]interface{}{"error": fmt.Sprintf("panic: %v", r)}
		}
	}()
	var request Request
	err := json.Unmarshal(line, &request)
	var result interface{}
	if err == nil {
		result, err = carryOut(&request)
	}
	if err != nil {
		return map[string]interface{}{"error": err.Error()}
	}
	return map[string]interface{}{"result": result}
}

func carryOut(request *Request) (interface{}, error) {
	options := request.Options
	switch request.Do {
	case "release":
		db := held[request.Held]
		if db == nil {
			return nil, fmt.Errorf("nothing is held under %d", request.Held)
		}
		delete(held, request.Held)
		return nil, db.Close()
	case "dump", "check", "pages", "stats", "info":
		// Only looking: opening read-write may commit a freelist, and 1.3.6
		// makes a missing file even when it is asked to open it read-only.
		options.ReadOnly = true
		if _, err := os.Stat(request.Path); err != nil {
			return nil, err
		}
	case "apply", "hold":
	default:
		return nil, fmt.Errorf("unknown request %q", request.Do)
	}

	db, err := open(request.Path, options)
	if err != nil {
		return nil, err
	}
	if request.Do == "hold" {
		id := len(held) + 1
		for held[id] != nil {
			id++
		}
		held[id] = db
		return id, nil
	}
	defer db.Close()
	if request.Do == "apply" {
		return apply(db, request.Transactions, options)
	}
	var result interface{}
	err = db.View(func(tx *bolt.Tx) error {
		result = look(request.Do, tx)
		return nil
	})
	return result, err
}

func open(path string, options Options) (*bolt.DB, error) {
	if options.TimeoutMs == 0 {
		// bbolt's own default is to wait for ever.
		options.TimeoutMs = 5000
	}
	mapped := 0
	if options.ReadersEvery != 0 {
		// Mapping anew would wait for the readers, for ever.
		mapped = 1 << 30
	}
	return bolt.Open(path, 0o600, &bolt.Options{
		Timeout:        time.Duration(options.TimeoutMs) * time.Millisecond,
		PageSize:       options.PageSize,
		FreelistType:   bolt.FreelistType(options.FreelistType),
		NoFreelistSync: options.NoFreelistSync,
		NoSync:         options.NoSync,
		ReadOnly:       options.ReadOnly,

		InitialMmapSize: mapped,
	})
}

// mostReaders are open at the same time; the oldest makes room.
const mostReaders = 3

func apply(db *bolt.DB, transactions []Transaction, options Options) ([]Applied, error) {
	applied := []Applied{}
	readers := []*bolt.Tx{}
	defer func() {
		for _, reader := range readers {
			reader.Rollback()
		}
	}()
	for n, transaction := range transactions {
		if options.ReadersEvery != 0 && n%options.ReadersEvery == 0 {
			if len(readers) == mostReaders {
				readers[0].Rollback()
				readers = readers[1:]
			}
			reader, err := db.Begin(false)
			if err != nil {
				return nil, err
			}
			readers = append(readers, reader)
		}
		one, err := applyOne(db, transaction, options.FillPercent)
		if err != nil {
			return nil, err
		}
		applied = append(applied, one)
	}
	return applied, nil
}

func applyOne(db *bolt.DB, transaction Transaction, fill float64) (Applied, error) {
	tx, err := db.Begin(true)
	if err != nil {
		return Applied{}, err
	}
	// After a commit this is refused and harmless; after a panic it frees the
	// writer's lock, without which Close would wait for ever.
	defer tx.Rollback()
	one := Applied{Txid: tx.ID(), Outcomes: []Outcome{}}
	for _, op := range transaction.Ops {
		value, err := perform(tx, op, fill)
		outcome := Outcome{Value: value}
		if err != nil {
			outcome = Outcome{Error: err.Error()}
		}
		one.Outcomes = append(one.Outcomes, outcome)
	}
	if transaction.Rollback {
		err = tx.Rollback()
	} else {
		err = tx.Commit()
	}
	if err != nil {
		one.Error = err.Error()
	}
	return one, nil
}

// find walks to a bucket; the root bucket is what a transaction's own cursor
// walks over.
func find(tx *bolt.Tx, path []string, fill float64) (*bolt.Bucket, error) {
	bucket := tx.Cursor().Bucket()
	for _, name := range path {
		if bucket = bucket.Bucket(raw(name)); bucket == nil {
			return nil, bolt.ErrBucketNotFound
		}
		if fill != 0 {
			bucket.FillPercent = fill
		}
	}
	return bucket, nil
}

func perform(tx *bolt.Tx, op Operation, fill float64) (interface{}, error) {
	bucket, err := find(tx, op.Bucket, fill)
	if err != nil {
		return nil, err
	}
	key := raw(op.Key)
	switch op.Op {
	case "create_bucket":
		_, err = bucket.CreateBucket(key)
	case "create_bucket_if_not_exists":
		_, err = bucket.CreateBucketIfNotExists(key)
	case "delete_bucket":
		err = bucket.DeleteBucket(key)
	case "put":
		err = bucket.Put(key, raw(op.Value))
	case "delete":
		err = bucket.Delete(key)
	case "get":
		if value := bucket.Get(key); value != nil {
			return hex.EncodeToString(value), nil
		}
		return nil, nil
	case "sequence":
		return bucket.Sequence(), nil
	case "set_sequence":
		err = bucket.SetSequence(op.Sequence)
	case "next_sequence":
		return bucket.NextSequence()
	case "cursor":
		return walk(bucket.Cursor(), op.Moves)
	default:
		err = fmt.Errorf("unknown operation %q", op.Op)
	}
	return nil, err
}

// walk reports, per move, [key, value], [key, null] on a bucket, or null off
// either end; a delete reports its error text or null.
func walk(cursor *bolt.Cursor, moves [][]string) (interface{}, error) {
	places := []interface{}{}
	for _, move := range moves {
		var k, v []byte
		switch move[0] {
		case "first":
			k, v = cursor.First()
		case "last":
			k, v = cursor.Last()
		case "next":
			k, v = cursor.Next()
		case "prev":
			k, v = cursor.Prev()
		case "seek":
			k, v = cursor.Seek(raw(move[1]))
		case "delete":
			if err := cursor.Delete(); err != nil {
				places = append(places, err.Error())
				continue
			}
		default:
			return nil, fmt.Errorf("unknown move %q", move[0])
		}
		switch {
		case k == nil:
			places = append(places, nil)
		case v == nil:
			places = append(places, []interface{}{hex.EncodeToString(k), nil})
		default:
			places = append(places, []interface{}{hex.EncodeToString(k), hex.EncodeToString(v)})
		}
	}
	return places, nil
}

func look(what string, tx *bolt.Tx) interface{} {
	root := tx.Cursor().Bucket()
	switch what {
	case "dump":
		return contents(root)
	case "check":
		return check(tx)
	case "pages":
		return pages(tx)
	case "stats":
		return stats(tx)
	}
	return Info{
		PageSize: tx.DB().Info().PageSize,
		Txid:     tx.ID(),
		Root:     uint64(root.Root()),
		Size:     tx.Size(),
	}
}

func contents(bucket *bolt.Bucket) *Contents {
	all := &Contents{Sequence: bucket.Sequence(), Entries: []Entry{}}
	// A cursor, not ForEach: in bbolt a nil value means a bucket only for
	// pages that were read back, and that is what a read-only file gives.
	cursor := bucket.Cursor()
	for k, v := cursor.First(); k != nil; k, v = cursor.Next() {
		entry := Entry{Key: hex.EncodeToString(k), Value: hex.EncodeToString(v)}
		if v == nil {
			entry.Bucket = contents(bucket.Bucket(k))
		}
		all.Entries = append(all.Entries, entry)
	}
	return all
}

func check(tx *bolt.Tx) []string {
	messages := []string{}
	for err := range tx.Check() {
		messages = append(messages, err.Error())
	}
	return messages
}

func pages(tx *bolt.Tx) []Page {
	// Tx.Page needs the freelist, which a read-only file has not loaded; the
	// check loads it.
	check(tx)
	all := []Page{}
	for id := 0; ; {
		page, err := tx.Page(id)
		if err != nil {
			panic(err)
		}
		if page == nil {
			return all
		}
		if page.Type == "free" {
			// The header of a free page is whatever was there last.
			page.Count, page.OverflowCount = 0, 0
		}
		all = append(all, Page{id, page.Type, page.Count, page.OverflowCount})
		id += 1 + page.OverflowCount
	}
}

func stats(tx *bolt.Tx) Stats {
	all := tx.Cursor().Bucket().Stats()
	free := 0
	for _, page := range pages(tx) {
		if page.Type == "free" {
			free++
		}
	}
	return Stats{
		Free:          free,
		Keys:          all.KeyN,
		Depth:         all.Depth,
		BranchPages:   all.BranchPageN,
		LeafPages:     all.LeafPageN,
		LeafOverflow:  all.LeafOverflowN,
		Buckets:       all.BucketN,
		InlineBuckets: all.InlineBucketN,
	}
}

// raw decodes hex; the test's side is trusted to send nothing else.
func raw(text string) []byte {
	data, err := hex.DecodeString(text)
	if err != nil {
		panic(err)
	}
	return data
}
