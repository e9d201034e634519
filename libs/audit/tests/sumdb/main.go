// Command sumdb reads a copy of a log by golang.org/x/mod/sumdb, which nobody here wrote.
package main

import (
	"encoding/base64"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

type folder string

func (f folder) Height() int                                 { return 8 }
func (f folder) SaveTiles(tiles []tlog.Tile, data [][]byte) {}

// ReadTiles reads tiles by their paths, which have no height in a C2SP log.
func (f folder) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(string(f), strings.Replace(tile.Path(), "tile/8/", "tile/", 1)))
		if err != nil {
			return nil, err
		}
		found = append(found, data)
	}
	return found, nil
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// entries returns those of one bundle.
func (f folder) entries(index, size int64) [][]byte {
	path := tlog.Tile{H: 8, L: -1, N: index, W: int(min(256, size-256*index))}.Path()
	data := must(os.ReadFile(filepath.Join(string(f), strings.Replace(path, "tile/8/data", "tile/entries", 1))))
	var found [][]byte
	for len(data) > 0 {
		length := int(data[0])<<8 | int(data[1])
		found, data = append(found, data[2:2+length]), data[2+length:]
	}
	return found
}

func main() {
	log.SetFlags(0)
	f := folder(os.Args[1])
	verifier := must(note.NewVerifier(os.Args[2]))
	signed := must(note.Open(must(os.ReadFile(filepath.Join(string(f), "checkpoint"))), note.VerifierList(verifier)))
	lines := strings.Split(signed.Text, "\n")
	size := must(strconv.ParseInt(lines[1], 10, 64))
	var root tlog.Hash
	copy(root[:], must(base64.StdEncoding.DecodeString(lines[2])))
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, f)
	if must(tlog.TreeHash(size, reader)) != root {
		log.Fatal("the tiles do not make the root")
	}
	included, extended := 0, 0
	for index := int64(0); index*256 < size; index++ {
		for place, entry := range f.entries(index, size) {
			leaf := index*256 + int64(place)
			proof := must(tlog.ProveRecord(size, leaf, reader))
			if err := tlog.CheckRecord(proof, size, root, leaf, tlog.RecordHash(entry)); err != nil {
				log.Fatalf("leaf %d: %v", leaf, err)
			}
			included++
		}
	}
	for old := int64(1); old < size; old += 3 {
		proof := must(tlog.ProveTree(size, old, reader))
		if err := tlog.CheckTree(proof, size, root, old, must(tlog.TreeHash(old, reader))); err != nil {
			log.Fatalf("size %d: %v", old, err)
		}
		extended++
	}
	fmt.Printf("%d entries, %d older trees: accepted\n", included, extended)
}
