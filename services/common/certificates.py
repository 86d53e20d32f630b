"""TLS files that are renewed while a process runs, as cert-manager does it: long before the old ones end, and never with a restart."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path

from services.common import logs

_log = logs.get_logger("tls")


class CertificateError(OSError):
    """TLS files cannot be used; the message is one sentence that says which, and why."""


class Certificates:
    """The contents of TLS files, PEM, and whether they have changed. Files that cannot be used never take the place of those that can.

    Attributes:
        key, certificate, authorities: What is in use; None where no file is given.

    Args:
        certificate: File with the certificate chain.
        key: File with its key.
        authorities: File with the authorities that the other side's certificate must come from.

    Raises:
        CertificateError: A file cannot be read, or holds something else.
    """

    def __init__(self, certificate: Path | None, key: Path | None, authorities: Path | None) -> None:
        self._files = authorities, key, certificate
        self._lock = threading.Lock()
        self._stamps = self._look()
        self.authorities, self.key, self.certificate = self._read()

    def renew(self) -> bool:
        """Takes the files where they have changed. Any thread may ask, as often as it likes: it costs a look at their times.

        Returns:
            Whether others are in use now. A file that is half written, or a key that is not the certificate's, is logged
            once, and looked at again when it has changed again.
        """
        with self._lock:
            stamps = self._look()
            if stamps == self._stamps:
                return False
            try:
                contents = self._read()
            except CertificateError as error:
                _log.warning("renewed TLS files cannot be used: those from before stay in use", detail=str(error))
                self._stamps = stamps
                return False
            if self._look() != stamps:
                # They were being written: what was read may be half of each.
                return False
            self._stamps = stamps
            self.authorities, self.key, self.certificate = contents
            _log.info("renewed TLS files are in use", files=[str(file) for file in self._files if file])
            return True

    def _look(self) -> list[tuple[int, ...]]:
        """What changes whenever a file does; of a Secret's volume, whose files are links, that of the files behind them."""
        stamps: list[tuple[int, ...]] = []
        for file in self._files:
            try:
                found = file.stat() if file else None
            except OSError:
                found = None
            stamps.append((found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns) if found else ())
        return stamps

    def _read(self) -> tuple[bytes | None, ...]:
        contents = tuple(_content(file) if file else None for file in self._files)
        authorities, key, certificate = self._files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if certificate and key:
            try:
                # No password: or OpenSSL would ask for one at the terminal.
                context.load_cert_chain(certificate, key, password="")
            except OSError as error:
                raise CertificateError(
                    f"the TLS files {certificate} and {key} are not a certificate and its key, without password, in PEM "
                    f"({_why(error)}): write both anew"
                ) from error
        if authorities:
            try:
                context.load_verify_locations(authorities)
            except OSError as error:
                raise CertificateError(
                    f"the TLS file {authorities} holds no certificates of authorities in PEM ({_why(error)}): write it anew"
                ) from error
        return contents


def _content(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise CertificateError(f"cannot read the TLS file {file}: {error.strerror}") from error


def _why(error: OSError) -> str:
    return (isinstance(error, ssl.SSLError) and error.reason) or error.strerror or type(error).__name__
