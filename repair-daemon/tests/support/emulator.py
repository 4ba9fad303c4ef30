"""Starts an object store on loopback, makes a bucket in it and says where it is; ends when standard input does.

    emulator.py s3 FOLDER BUCKET [--tls]
    emulator.py azure FOLDER CONTAINER AZURITE_MAIN_JS [--tls]

Prints one line: the endpoint. With --tls FOLDER/ca.pem is the authority to trust.
"""

import base64, ctypes, datetime, email.utils, hashlib, hmac, http.client, os, signal, socket, ssl, subprocess, sys, threading, time

ACCOUNT = "devstoreaccount1"
# The key that every Azurite knows; it is published with it.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def make_certificates(folder):
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    import ipaddress

    def name(text):
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def certificate(subject, issuer, key, signer, ca):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=2))
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        if not ca:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signer, hashes.SHA256())

    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca = certificate("test authority", "test authority", ca_key, ca_key, True)
    leaf = certificate("localhost", "test authority", key, ca_key, False)
    pem = serialization.Encoding.PEM
    with open(f"{folder}/ca.pem", "wb") as file:
        file.write(ca.public_bytes(pem))
    with open(f"{folder}/cert.pem", "wb") as file:
        file.write(leaf.public_bytes(pem))
    with open(f"{folder}/key.pem", "wb") as file:
        file.write(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def connect(port, folder, tls):
    if tls:
        return http.client.HTTPSConnection("localhost", port, context=ssl.create_default_context(cafile=f"{folder}/ca.pem"))
    return http.client.HTTPConnection("127.0.0.1", port)


def put(port, folder, tls, path, headers):
    connection = connect(port, folder, tls)
    connection.request("PUT", path, b"", headers)
    status = connection.getresponse().status
    if status not in (200, 201):
        sys.exit(f"cannot make the bucket: HTTP {status}")


def start_s3(folder, bucket, tls):
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "test")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "test")
    import logging
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    context = None
    if tls:
        context = (f"{folder}/cert.pem", f"{folder}/key.pem")
    one_at_a_time = threading.Lock()
    application = DomainDispatcherApplication(create_backend_app)

    def atomic(environ, start):
        # moto looks whether a key exists and then writes it, on several threads. The service does both as one.
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        import io

        environ["wsgi.input"] = io.BytesIO(body)
        with one_at_a_time:
            return list(application(environ, start))

    server = make_server("127.0.0.1", 0, atomic, threaded=True, ssl_context=context)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    put(server.port, folder, tls, f"/{bucket}", {})
    return server.port, ""


def start_azure(folder, container, script, tls):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["node", script, "--silent", "--skipApiVersionCheck", "--disableTelemetry", "--loose"]
    command += ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", folder]
    if tls:
        command += ["--cert", f"{folder}/cert.pem", "--key", f"{folder}/key.pem"]
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=sys.stderr, preexec_fn=die_with_parent)
    for _ in range(600):
        if child.poll() is not None:
            sys.exit(f"Azurite ended with {child.returncode}")
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            time.sleep(0.1)
    date = email.utils.formatdate(usegmt=True)
    text = "PUT\n" + "\n" * 11 + f"x-ms-date:{date}\nx-ms-version:2021-08-06\n/{ACCOUNT}/{ACCOUNT}/{container}\nrestype:container"
    digest = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    headers = {"x-ms-date": date, "x-ms-version": "2021-08-06", "Content-Length": "0"}
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    put(port, folder, tls, f"/{ACCOUNT}/{container}?restype=container", headers)
    return port, f"/{ACCOUNT}"


def main():
    arguments = [argument for argument in sys.argv[1:] if argument != "--tls"]
    tls = "--tls" in sys.argv
    kind, folder, bucket = arguments[:3]
    if tls:
        make_certificates(folder)
    port, path = start_s3(folder, bucket, tls) if kind == "s3" else start_azure(folder, bucket, arguments[3], tls)
    print(f"https://localhost:{port}{path}" if tls else f"http://127.0.0.1:{port}{path}", flush=True)
    sys.stdin.read()
    os._exit(0)


main()
