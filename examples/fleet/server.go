//go:build unix

package main

import (
	"context"
	"errors"
	"net"
	"net/url"
	"os"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
)

// startServer starts an etcd server in this process. Its data is in a temporary
// folder in tmp, or in the default folder for temporary files if tmp is "".
func startServer(ctx context.Context, tmp string) (endpoint string, stop func(), err error) {
	dir, err := os.MkdirTemp(tmp, "condvar-fleet-")
	if err != nil {
		return "", nil, err
	}
	var server *embed.Etcd
	for range 5 { // another process may take the port in between
		if server, endpoint, err = tryServer(ctx, dir); err == nil || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		_ = os.RemoveAll(dir)
		return "", nil, err
	}
	return endpoint, func() {
		server.Close()
		_ = os.RemoveAll(dir)
	}, nil
}

func tryServer(ctx context.Context, dir string) (*embed.Etcd, string, error) {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.LogLevel, cfg.LogOutputs = "fatal", []string{os.DevNull}
	cfg.UnsafeNoFsync = true // the data is not needed after a crash
	ports := make([]url.URL, 2)
	for i := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, "", err
		}
		ports[i] = url.URL{Scheme: "http", Host: l.Addr().String()}
		_ = l.Close()
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = ports[:1], ports[:1]
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = ports[1:], ports[1:]
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	server, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, "", err
	}
	timer := time.NewTimer(10 * time.Second)
	defer timer.Stop()
	select {
	case <-server.Server.ReadyNotify():
		return server, ports[0].Host, nil
	case <-timer.C:
		err = errors.New("not ready after 10 s")
	case <-ctx.Done():
		err = ctx.Err()
	}
	server.Close()
	return nil, "", err
}
